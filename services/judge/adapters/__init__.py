"""The rubric files."""
