"""Mixed precision under a budget: what each layer loses and saves, a path from exact to small, and how far to go."""
