"""Tasks: each asks one thing whose answer is known."""
