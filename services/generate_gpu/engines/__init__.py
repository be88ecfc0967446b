"""What completes messages: each engine is one file."""
