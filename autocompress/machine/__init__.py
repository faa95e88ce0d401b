"""A machine on which files are timed: what it is, what it does meanwhile, and the block loop.

Numpy, ONNX Runtime and the standard library alone, and relative imports: the distribution autocompress-agent ships
these very files, so that a device elsewhere times as this machine does.
"""
