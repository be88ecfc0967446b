"""What a document is made of, and how it is cut: no I/O, no parser libraries."""
