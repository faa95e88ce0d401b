"""Fewer bits: ONNX files with integer or half-precision operators."""
