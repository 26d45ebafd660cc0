"""Labels of writes computed from the model itself: sources, effects, jointly chosen words, skips and strength."""

from tl_nla.oracle.labels.effects import Effects, Lens, probability_effects, write_effects
from tl_nla.oracle.labels.expected import expected_vocabulary
from tl_nla.oracle.labels.pursuit import pursue
from tl_nla.oracle.labels.skip import SIZES, SkipLabels, skip_labels
from tl_nla.oracle.labels.sources import LOCAL, HeadSources, head_sources, raw_source_weights
from tl_nla.oracle.labels.strength import STEPS, StrengthReference, relative_norm
from tl_nla.oracle.labels.usual import UsualWrites
from tl_nla.oracle.labels.vocabulary import Vocabulary
from tl_nla.oracle.labels.whole_words import whole_words

__all__ = [
    "LOCAL",
    "SIZES",
    "STEPS",
    "Effects",
    "HeadSources",
    "Lens",
    "SkipLabels",
    "StrengthReference",
    "UsualWrites",
    "Vocabulary",
    "expected_vocabulary",
    "head_sources",
    "probability_effects",
    "pursue",
    "raw_source_weights",
    "relative_norm",
    "skip_labels",
    "whole_words",
    "write_effects",
]
