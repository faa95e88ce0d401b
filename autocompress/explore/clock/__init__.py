"""The time of a search: spent, left, and what things take of it."""
