"""The graphs of Whisper with the ports of other people's software, made from ours by adding nodes around them."""
