"""SmolLM2-135M-Instruct, a small real English model named ``"smollm2"``: where its weights are, how to load it.

A plug-in of the core (:mod:`tl_nla.plugins`). Its weights are not part of tl-nla; :func:`find_weights` says where they
may come from.
"""

from tl_nla._lazy import lazy

__all__ = ["SmolLM2", "find_weights", "load_smollm2"]

__getattr__ = lazy(
    __name__,
    {
        "SmolLM2": "tl_nla.smollm2.loading",
        "find_weights": "tl_nla.smollm2.weights",
        "load_smollm2": "tl_nla.smollm2.loading",
    },
)
