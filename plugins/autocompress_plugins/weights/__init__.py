"""Cheaper weights in the same layers: low rank, shared, zeroed."""
