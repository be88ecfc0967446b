"""Checks answers, counts votes, picks by rubric, reads critiques."""
