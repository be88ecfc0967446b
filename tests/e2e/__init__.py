"""Jobs through the whole embedded stack."""
