"""What must hold for a pod, or its ADD fails: nobody sends as somebody else."""
