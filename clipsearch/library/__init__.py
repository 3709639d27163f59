"""`Library`, which the command line and Python both use, and what keeps one in order."""
