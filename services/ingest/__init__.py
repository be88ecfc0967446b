"""Reads documents into chunks that can be cited: by section, clause and page."""
