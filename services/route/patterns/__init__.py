"""One file a pattern: what it needs of an item, the slip it opens with, and where it decides, the steps that follow."""
