"""Faults: single ones on real servers, and all of them together."""
