"""What judge decides: pure functions, no embeddings, the same result every time."""
