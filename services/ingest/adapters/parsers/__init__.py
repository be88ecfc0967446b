"""One file a format: each turns bytes or text into a `Reading`."""
