"""Smaller structures: channels, attention heads, recurrent units, whole blocks."""
