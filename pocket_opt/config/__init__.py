"""What a user may write: schema, parsing, named choices, overrides, loading, and the generated reference."""
