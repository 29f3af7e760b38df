"""Documentation, and what writes the parts of it that the code knows better: ``python -m docs.generate``."""
