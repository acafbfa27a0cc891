"""Whisper as PyTorch modules that ExecuTorch runs fast, and the programs made of them."""
