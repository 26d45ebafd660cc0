"""Explanations taken apart into atomic claims, each checked against the known truth."""

import re
from dataclasses import dataclass

from tl_nla.faithfulness.grammar import Claim, Verdict
from tl_nla.storyworld.facts import Facts

CLAIM_TYPES = ("recent", "next", "who", "where", "what", "colour", "feeling", "inside")
WITHHELD = frozenset(("Who", "Where", "What", "Which", "How", "When"))
"""Question words stand for what an explanation abstains from; they claim nothing."""

_RECENT = re.compile(r'Recent words: "(.*?)"\.(?= Next:| This | The | [A-Z]\w+ (?:is|has|feels) |$)', re.DOTALL)
_NEXT = re.compile(r'Next: (surely|likely|perhaps) ("[^"]*"(?: or "[^"]*")*)\.')  # linear: any text may come here
_GUESS = re.compile(r'"(.*?)"(?= or |$)', re.DOTALL)
_FACTS = (
    ("who", re.compile(r"This is about (\w+)\."), (None, 1)),
    ("where", re.compile(r"(\w+) is at the (\w+)\."), (1, 2)),
    ("what", re.compile(r"(\w+) has the (\w+)\."), (1, 2)),
    ("feeling", re.compile(r"(\w+) feels (\w+)\."), (1, 2)),
    ("inside", re.compile(r"The (\w+) is in the (\w+)\."), (1, 2)),
    ("colour", re.compile(r"The (\w+) is (\w+)\."), (1, 2)),
)


@dataclass(frozen=True)
class Truth:
    """What can be known at a position: facts told so far, the recent text, and the model's best next tokens."""

    facts: Facts
    recent: str
    guesses: tuple[str, ...] = ()


def parse_claims(explanation: str) -> list[Claim]:
    """Take an explanation apart.

    Args:
        explanation: text in the form of :func:`tl_nla.storyworld.explanations.write_explanation`; anything else
            in it is passed over.

    Returns:
        Its claims without repetition, in order of type.
    """
    claims: list[Claim] = []
    rest = explanation
    recent = _RECENT.search(explanation)
    if recent is not None:
        claims += recent_claims(recent.group(1))
        rest = rest.replace(recent.group(0), "", 1)
    following = _NEXT.search(rest)
    if following is not None:
        claims += [Claim("next", "", guess) for guess in _GUESS.findall(following.group(2))]
        rest = rest.replace(following.group(0), "", 1)
    for kind, pattern, (subject, value) in _FACTS:
        for match in pattern.finditer(rest):
            claims.append(Claim(kind, match.group(subject) if subject else "", match.group(value)))
    return list(dict.fromkeys(claims))


def made_claims(text: str, truth: Truth | None = None) -> list[Claim]:
    """Claims of a text, those with a question word in the place of what they would name left out.

    Args:
        text: an explanation.
        truth: what is known; with it a question word that really stands in the story (``Where is Tom?``) is a claim.
    """
    claims = parse_claims(text)
    return [one for one in claims if not _withheld(one) or (truth is not None and check(one, truth) == "true")]


def _withheld(claim: Claim) -> bool:
    return bool({claim.value.strip(), claim.subject} & WITHHELD)


def recent_claims(recent: str) -> list[Claim]:
    """One claim a recent word (punctuation marks count), numbered from the last."""
    words = re.findall(r"\w+|[^\w\s]", recent)
    return [Claim("recent", str(back), word) for back, word in enumerate(reversed(words))]


def check(claim: Claim, truth: Truth) -> Verdict:
    """Check one claim.

    Returns:
        ``"true"``, ``"false"`` (the truth says otherwise), or ``"untold"`` (nothing was told about it). In
        precision an untold claim counts as not true: the explanation had no ground for it.
    """
    facts = truth.facts
    if claim.type == "recent":
        return "true" if claim in recent_claims(truth.recent) else "false"
    if claim.type == "next":
        return "true" if claim.value in truth.guesses else "false"
    known = {
        "who": facts.person,
        "where": facts.at.get(claim.subject),
        "what": facts.holder.get(claim.value),
        "feeling": facts.feels.get(claim.subject),
        "inside": facts.inside.get(claim.subject),
        "colour": facts.colour.get(claim.subject),
    }[claim.type]
    if known is None:
        return "untold"
    return "true" if known == (claim.subject if claim.type == "what" else claim.value) else "false"
