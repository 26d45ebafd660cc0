"""The diff oracle: labels of what writes do, a verbalizer that says it in words, and vectors back from the words."""

from tl_nla._lazy import lazy
from tl_nla.oracle.capture import CaptureConfig, LabelledWrites, capture_writes
from tl_nla.oracle.encoder import SourceEncoder
from tl_nla.oracle.layers import LayerWords, head_sites, sum_of_heads
from tl_nla.oracle.oracle import DiffOracle
from tl_nla.oracle.questions import QUESTIONS, Answer, answer_text, parse_answer
from tl_nla.oracle.slots import Slots
from tl_nla.oracle.texts import Label, label_text, parse_label
from tl_nla.oracle.two_explanations import TwoExplanations, explain_twice
from tl_nla.oracle.verbalizer import WriteVerbalizer
from tl_nla.oracle.write_reconstructor import WriteReconstructor

__all__ = [
    "QUESTIONS",
    "Answer",
    "CaptureConfig",
    "DiffOracle",
    "Label",
    "LabelledWrites",
    "LayerWords",
    "Slots",
    "SourceEncoder",
    "TwoExplanations",
    "WriteReconstructor",
    "WriteVerbalizer",
    "answer_text",
    "capture_writes",
    "explain_twice",
    "head_sites",
    "label_text",
    "parse_answer",
    "parse_label",
    "sum_of_heads",
]

__getattr__ = lazy(__name__)
