"""What can be tried: strategies, their choices, and how fast a structure of them will be."""
