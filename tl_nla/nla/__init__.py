"""Natural language autoencoders: verbalizer, reconstructor, their pair and the checkpoint contract."""

from tl_nla._lazy import lazy
from tl_nla.nla.activation_oracle import ActivationOracle
from tl_nla.nla.beam_search import BeamSearch
from tl_nla.nla.best_of import BestOf
from tl_nla.nla.formats.sidecar import Meta, read_meta
from tl_nla.nla.injection import Injection, InjectionConfig
from tl_nla.nla.pair import NLA
from tl_nla.nla.prompts import AR_TEMPLATE, AV_TEMPLATE
from tl_nla.nla.reconstructor import Reconstructor
from tl_nla.nla.reference import FrozenReference, LoraSettings, add_lora
from tl_nla.nla.rollouts import BuiltInBackend, RolloutBackend, RolloutConfig
from tl_nla.nla.sure_words import SureWords
from tl_nla.nla.verbalizer import Generation, Verbalizer

__all__ = [
    "AR_TEMPLATE",
    "AV_TEMPLATE",
    "NLA",
    "ActivationOracle",
    "BeamSearch",
    "BestOf",
    "BuiltInBackend",
    "FrozenReference",
    "Generation",
    "Injection",
    "InjectionConfig",
    "LoraSettings",
    "Meta",
    "Reconstructor",
    "RolloutBackend",
    "RolloutConfig",
    "SureWords",
    "Verbalizer",
    "add_lora",
    "read_meta",
]

__getattr__ = lazy(__name__)
