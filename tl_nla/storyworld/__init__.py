"""The embedded default: a small world with known truth, its text, its tiny models."""
