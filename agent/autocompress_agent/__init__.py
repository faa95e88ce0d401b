"""Times ONNX files on the machine that it runs on, for searches elsewhere. Nothing of torch or of autocompress."""

__version__ = "0.1.0"
