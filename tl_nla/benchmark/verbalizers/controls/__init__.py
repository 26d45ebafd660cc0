"""Controls: what a verbalizer has to beat."""
