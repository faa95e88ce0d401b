"""Repair of a structure before its first training step: what is left is refitted to what was removed."""
