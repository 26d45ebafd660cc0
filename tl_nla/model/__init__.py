"""The model that is looked into: how text becomes token ids, and which tokens are control tokens."""
