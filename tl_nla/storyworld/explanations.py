"""Explanations of a state, written from the model's own prediction, the recent tokens and the truth so far.

Nothing after the position enters: the facts come from the parser's reading of the text up to the position,
the prediction from the model's logits there. These texts are the warm start of the verbalizer and the
reconstructor; :mod:`tl_nla.storyworld.claims` takes them apart again.
"""

from collections.abc import Sequence

from tl_nla.storyworld.facts import Facts

SURE, LIKELY = 0.9, 0.5


def certainty(probability: float) -> str:
    """The word for how sure the model is of its best guess: surely (above .9), likely (above .5), perhaps."""
    if probability > SURE:
        return "surely"
    return "likely" if probability > LIKELY else "perhaps"


def fact_sentences(facts: Facts) -> list[str]:
    """What is known about the person and the object named last, one claim a sentence."""
    said = []
    person, thing = facts.person, facts.object
    if person is not None:
        said.append(f"This is about {person}.")
        if person in facts.at:
            said.append(f"{person} is at the {facts.at[person]}.")
        held = facts.held_by(person)
        if held:
            said.append(f"{person} has the {held[-1]}.")
            thing = thing if thing is not None else held[-1]
        if person in facts.feels:
            said.append(f"{person} feels {facts.feels[person]}.")
    if thing is not None:
        if thing in facts.colour:
            said.append(f"The {thing} is {facts.colour[thing]}.")
        if facts.holder.get(thing, person) != person:
            said.append(f"{facts.holder[thing]} has the {thing}.")
        if thing in facts.inside:
            said.append(f"The {thing} is in the {facts.inside[thing]}.")
    return said


def write_explanation(facts: Facts, recent: str, guesses: Sequence[tuple[str, float]]) -> str:
    """One explanation of the state after a token.

    Args:
        facts: the truth up to and including the token.
        recent: the last few tokens as text, the explained one last.
        guesses: the model's best next tokens with their probabilities, best first.

    Returns:
        The explanation, about 45 tokens of the embedded tokenizer.
    """
    parts = [f'Recent words: "{recent}".']
    if guesses:
        words = " or ".join(f'"{word}"' for word, _ in guesses)
        parts.append(f"Next: {certainty(guesses[0][1])} {words}.")
    return " ".join(parts + fact_sentences(facts))
