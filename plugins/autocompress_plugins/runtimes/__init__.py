"""What opens an ONNX file and runs it."""
