"""What generate decides, without I/O."""
