"""What is kept, where, and which process computes."""
