"""One graph from samples to text: front end, encoder, token loop with its rules, and detokenizer, in ONNX operators."""
