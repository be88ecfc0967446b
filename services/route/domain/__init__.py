"""What route decides, without I/O: patterns, prompts, rendering."""
