"""The embedded default: a small world with known truth, its text, its tiny models.

A plug-in of the core. Once any part of it is imported, explanations are read by its grammar of claims.
"""

from tl_nla._lazy import lazy
from tl_nla.faithfulness.grammar import use_grammar
from tl_nla.storyworld.grammar import GRAMMAR

__getattr__ = lazy(__name__)

use_grammar(GRAMMAR)
