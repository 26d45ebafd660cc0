"""The diff oracle: labels of what writes do, a reader that says it in words, and vectors back from the words."""

from tl_nla.oracle.capture import CaptureConfig, LabelledWrites, capture_writes
from tl_nla.oracle.oracle import DiffOracle
from tl_nla.oracle.questions import QUESTIONS, Answer, answer_text, make_answer, parse_answer
from tl_nla.oracle.reader import Reader
from tl_nla.oracle.slots import Slots
from tl_nla.oracle.texts import Label, label_text, parse_label
from tl_nla.oracle.write_reconstructor import WriteReconstructor

__all__ = [
    "QUESTIONS",
    "Answer",
    "CaptureConfig",
    "DiffOracle",
    "Label",
    "LabelledWrites",
    "Reader",
    "Slots",
    "WriteReconstructor",
    "answer_text",
    "capture_writes",
    "label_text",
    "make_answer",
    "parse_answer",
    "parse_label",
]
