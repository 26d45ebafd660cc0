"""Judges that know the story world: of claims, and of steered stories."""

import functools
from dataclasses import dataclass

from tl_nla.data.words import split_words
from tl_nla.storyworld.claims import Truth, check, parse_claims
from tl_nla.storyworld.parser import Parse, parse


def judge_world(claim: str, text: str) -> bool | None:
    """Whether a story of the embedded world makes the claim true; ``None`` for what the text alone cannot decide.

    Claims about the next word depend on the model, so they are left undecided.
    """
    parsed = _parse(text)
    if not parsed.facts:
        return None
    verdicts = []
    for said in parse_claims(claim):
        if said.type == "recent":
            back = int(said.subject)
            verdicts.append(back < len(parsed.words) and parsed.words[-1 - back] == said.value)
        elif said.type != "next":
            verdicts.append(check(said, Truth(parsed.facts[-1], "")) == "true")
    return all(verdicts) if verdicts else None


@functools.lru_cache(maxsize=64)
def _parse(text: str) -> Parse:
    """Every claim of an explanation is judged by the same text."""
    return parse(text)


@dataclass(frozen=True)
class StoryJudgement:
    """What the world's parser says about a continuation.

    Attributes:
        first: whether the target is its first word.
        appears: whether the target stands anywhere in it.
        valid: whether no finished sentence is outside of the world's grammar.
        recalls: sentences, behind the first, that recall facts.
        kept: how many of those agree with the facts told.
    """

    first: bool
    appears: bool
    valid: bool
    recalls: int
    kept: int


def judge_story(prompt: str, said: str, target: str) -> StoryJudgement:
    """Judge a continuation of a story.

    The first finished sentence holds the steered word, which contradicts the story on purpose, so ``recalls`` and
    ``kept`` leave it out.
    """
    parsed = parse(prompt + said)
    start = sum(right <= len(prompt) for _, right in parsed.spans)
    new = [sentence for sentence in parsed.sentences if sentence.end > start]
    recalls = [sentence for sentence in new[1:] if sentence.template is not None and sentence.template.kind == "recall"]
    words = [word for word, _, _ in split_words(said)]
    return StoryJudgement(
        first=words[:1] == [target],
        appears=target in words,
        valid=all(sentence.verdict != "ungrammatical" for sentence in new),
        recalls=len(recalls),
        kept=sum(sentence.verdict == "valid" for sentence in recalls),
    )
