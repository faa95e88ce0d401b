"""Which process computes, and what a search may ask of it."""
