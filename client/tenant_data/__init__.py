"""All that a stack holds of one tenant: exported to files, or erased, place by place."""
