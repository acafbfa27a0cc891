"""Whisper: reading checkpoints, building graphs node by node, and the runner that every bundle carries."""
