"""What retrieve decides without I/O: terms, segments, scores."""
