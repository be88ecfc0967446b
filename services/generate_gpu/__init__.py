"""generate: completes messages with a model."""
