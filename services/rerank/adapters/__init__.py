"""Scorers that need a model."""
