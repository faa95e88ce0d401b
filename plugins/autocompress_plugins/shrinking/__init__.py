"""Taking parts out of a model: which go together, which matter least, and how they are removed."""
