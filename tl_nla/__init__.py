"""Natural language autoencoders at the hook points of any TransformerLens model."""

__version__ = "0.1.0"
