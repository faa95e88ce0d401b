"""Averages of the weights over training, as a strategy of autocompress."""

__version__ = "0.1.0"
