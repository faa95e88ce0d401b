"""Which structures are worth training, and their training."""
