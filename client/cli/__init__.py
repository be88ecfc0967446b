"""The `penstock` command: one file a command, listed in `main`."""
