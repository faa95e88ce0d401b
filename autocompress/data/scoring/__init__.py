"""How outputs become a score: what is kept of them, and the metric of that."""
