"""The search: problem, strategies, result."""
