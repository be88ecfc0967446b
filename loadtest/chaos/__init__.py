"""Chaos: a job on the embedded stack while everything around it dies, and an honest count of what came out."""
