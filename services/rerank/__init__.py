"""Orders passages anew and keeps the best."""
