"""The embedded default: a small world with known truth, its text, its tiny models."""

from tl_nla._lazy import lazy

__getattr__ = lazy(__name__)
