"""Blind readers: they see words, and nothing else."""
