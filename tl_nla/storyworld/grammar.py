"""The grammar of the story world's claims, as the faithfulness measures take it."""

from tl_nla.faithfulness.grammar import Claim, ClaimGrammar
from tl_nla.storyworld.claims import CLAIM_TYPES, Truth, check, made_claims, parse_claims
from tl_nla.storyworld.judges import judge_world
from tl_nla.storyworld.lexicon import COLOURS, CONTAINERS, FEELINGS, NAMES, OBJECTS, PLACES, SLOTS
from tl_nla.storyworld.wordings import FORMS

_ASKED = {
    "A": "Who", "B": "Who", "place": "Where", "container": "Where", "object": "What", "colour": "Which",
    "feeling": "How", "animal": "What", "food": "What", "weather": "How", "time": "When",
}  # fmt: skip
QUESTION_WORDS: dict[str, str] = {word: _ASKED[slot] for slot, words in SLOTS.items() for word in words}
"""Words of the embedded world that name something, with the question word that stands for their kind."""
_VALUES = {"who": NAMES, "where": PLACES, "what": OBJECTS, "feeling": FEELINGS, "inside": CONTAINERS, "colour": COLOURS}
_RELATIONS = {"where": "at", "what": "holds", "feeling": "feels", "inside": "inside", "colour": "colour"}


def told(claim: Claim, truth: Truth) -> int | None:
    """Index of the word that told the fact that a claim is about; ``None`` where none did."""
    if claim.type not in _RELATIONS:
        return None
    subject = claim.value if claim.type == "what" else claim.subject
    return truth.facts.told.get((_RELATIONS[claim.type], subject))


GRAMMAR = ClaimGrammar(
    CLAIM_TYPES, parse_claims, made_claims, check, told, _VALUES, QUESTION_WORDS, FORMS, ("recent", "next"), judge_world
)
