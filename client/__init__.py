"""What a user holds: the Python client, the `penstock` command and the embedded stack."""
