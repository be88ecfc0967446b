"""Finds the best passages for a question: words and vectors on two levels, passage and document."""
