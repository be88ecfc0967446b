"""Remembers conversations: the last turns of each session."""
