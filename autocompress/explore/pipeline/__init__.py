"""What is asked to be computed of one candidate, in order."""
