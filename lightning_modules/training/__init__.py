"""LightningModules: whatever trains."""
