"""Explanations of a state, written from the model's own prediction, the recent tokens and the truth so far.

Nothing after the position enters. The facts come from the parser's reading of the text up to the position, the
prediction from the model's logits there. These texts are the warm start of the verbalizer and the reconstructor;
:mod:`tl_nla.storyworld.claims` takes them apart again.
"""

from collections.abc import Container, Sequence

from tl_nla.explainers.mechanical import recent_and_next
from tl_nla.storyworld.facts import Facts


def fact_answers(facts: Facts) -> dict[str, str | None]:
    """What can be asked about the person and the object named last, by kind; ``None`` where nothing was told.

    The kinds are ``who``, ``where``, ``what`` (the person has), ``feeling``, ``colour``, ``holder`` (who else has the
    object) and ``inside``.
    """
    person, thing = facts.person, facts.object
    held = [] if person is None else facts.held_by(person)
    thing = thing if thing is not None or not held else held[-1]
    holder = facts.holder.get(thing or "")
    return {
        "who": person,
        "where": facts.at.get(person or ""),
        "what": held[-1] if held else None,
        "feeling": facts.feels.get(person or ""),
        "colour": facts.colour.get(thing or ""),
        "holder": None if holder == person else holder,
        "inside": facts.inside.get(thing or ""),
    }


def fact_sentences(facts: Facts, held: Container[str] | None = None) -> list[str]:
    """What is known about the person and the object named last, one claim a sentence.

    Args:
        facts: the truth.
        held: kinds of :func:`fact_answers` that are said; all when ``None``.
    """
    person, thing = facts.person, facts.object
    answers = fact_answers(facts)
    thing = thing if thing is not None else answers["what"]
    forms = {
        "who": "This is about {0}.",
        "where": f"{person} is at the {{0}}.",
        "what": f"{person} has the {{0}}.",
        "feeling": f"{person} feels {{0}}.",
        "colour": f"The {thing} is {{0}}.",
        "holder": f"{{0}} has the {thing}.",
        "inside": f"The {thing} is in the {{0}}.",
    }
    return [
        form.format(answers[kind])
        for kind, form in forms.items()
        if answers[kind] is not None and (held is None or kind in held)
    ]


def write_explanation(
    facts: Facts, recent: str, guesses: Sequence[tuple[str, float]], held: Container[str] | None = None
) -> str:
    """One explanation of the state after a token.

    Args:
        facts: the truth up to and including the token.
        recent: the last few tokens as text, the explained one last.
        guesses: the model's best next tokens with their probabilities, best first.
        held: kinds of facts that are said; all when ``None``.

    Returns:
        The explanation, 25 to 60 tokens of the embedded tokenizer.
    """
    return " ".join(recent_and_next(recent, guesses) + fact_sentences(facts, held))
