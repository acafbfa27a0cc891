"""Model families, one folder each, and where their files come from."""
