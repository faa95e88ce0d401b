"""Students, and how a compressed model is trained back."""
