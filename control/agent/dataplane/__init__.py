"""The kernel port, and what the node's kernel is told of pods, Services, shaping and filters."""
