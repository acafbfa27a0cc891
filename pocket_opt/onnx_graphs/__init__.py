"""ONNX graphs as data: reading, writing, checking, and the arithmetic of small number formats."""
