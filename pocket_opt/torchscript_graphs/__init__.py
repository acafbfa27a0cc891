"""Whisper as TorchScript programs for PyTorch's lite interpreter."""
