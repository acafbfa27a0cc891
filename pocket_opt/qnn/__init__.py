"""Qualcomm's NPU compiler and simulator (QNN) through ONNX Runtime: what it takes, what it is told, what it makes."""
