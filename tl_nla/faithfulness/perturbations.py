"""Changes of a text that should not matter if it means what it says, and changes that should.

Meaning is kept by :func:`paraphrase`, :func:`shuffle_clauses` and a rewording callable. It is damaged on purpose by
:func:`shuffle_words`, :func:`quotes_only` and :func:`quotes_removed`, which show where the payload is (definitions:
syvb/natural_language_autoencoders, CODE_INVESTIGATION). All are deterministic in the text and the seed.
"""

import random
import re
from collections.abc import Callable, Sequence

from tl_nla.faithfulness.clauses import join_clauses, quoted_spans, split_clauses
from tl_nla.faithfulness.grammar import grammar
from tl_nla.faithfulness.wordings import read_form, reword

Perturbation = Callable[[str], str]

_SYNONYMS = {
    "about": "regarding", "regarding": "about", "also": "too", "big": "large", "large": "big", "small": "little",
    "little": "small", "begins": "starts", "starts": "begins", "likely": "probably", "probably": "likely",
    "maybe": "perhaps", "shows": "displays", "discusses": "covers", "covers": "discusses", "mentions": "names",
    "describes": "depicts", "text": "passage", "passage": "text", "phrase": "expression", "story": "tale",
    "next": "following", "following": "next", "person": "individual", "often": "frequently", "uses": "employs",
    "topic": "subject", "subject": "topic", "tone": "mood", "very": "really", "quickly": "fast",
}  # fmt: skip
_WORD = re.compile(r"[A-Za-z]+")


def paraphrase(text: str, seed: int = 0, order: bool = True) -> str:
    """The text in other words and, by default, with its clauses in another order; quotes are left as they are.

    Clauses that the grammar of claims knows take another of their wordings. Any other clause has common words replaced
    by synonyms of a fixed table (a rough paraphrase: for real text plug in a callable).

    Args:
        text: any text.
        seed: which paraphrase.
        order: also move the clauses.
    """
    rng = random.Random(f"paraphrase/{seed}/{text}")
    worded = [_other_wording(clause.text, rng) for clause in split_clauses(text)]
    return join_clauses(_moved(worded, rng) if order else worded)


def _other_wording(clause: str, rng: random.Random) -> str:
    known = read_form(clause)
    if known is None:
        return outside_quotes(clause, lambda part: _WORD.sub(lambda word: _synonym(word.group()), part))
    kind, number, _ = known
    return reword(clause, rng.choice([other for other in range(len(grammar().forms[kind])) if other != number]))


def _synonym(word: str) -> str:
    other = _SYNONYMS.get(word.lower(), word)
    return other.capitalize() if word[0].isupper() and other != word else other


def outside_quotes(text: str, change: Perturbation) -> str:
    """Change what stands outside quotation marks."""
    parts, place = [], 0
    for start, end in quoted_spans(text):
        parts += [change(text[place:start]), text[start:end]]
        place = end
    return "".join([*parts, change(text[place:])])


def _moved(parts: Sequence[str], rng: random.Random) -> list[str]:
    """Another order if there is one."""
    order = list(range(len(parts)))
    while len(order) > 1 and order == sorted(order):
        rng.shuffle(order)
    return [parts[place] for place in order]


def shuffle_clauses(text: str, seed: int = 0) -> str:
    """The same clauses in another order."""
    clauses = [clause.text for clause in split_clauses(text)]
    rng = random.Random(f"clauses/{seed}/{text}")
    return join_clauses(_moved(clauses, rng))


def shuffle_words(text: str, seed: int = 0) -> str:
    """The words of each clause in another order; clauses stay in place."""
    rng = random.Random(f"words/{seed}/{text}")
    return join_clauses([" ".join(_moved(clause.text.split(), rng)) for clause in split_clauses(text)])


def quotes_only(text: str) -> str:
    """What stands in quotation marks, with its marks, and nothing else."""
    return " ".join(f'"{text[start:end]}"' for start, end in quoted_spans(text))


def quotes_removed(text: str) -> str:
    """The text with what stands in quotation marks taken out; the marks stay."""
    spans = quoted_spans(text)
    starts = [0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), len(text)]
    return "".join(text[start:end] for start, end in zip(starts, ends, strict=True))


def reworded_by(rewrite: Perturbation) -> Perturbation:
    """A rewording by a callable, clause by clause, so that number and order of clauses stay.

    Args:
        rewrite: one clause to its rewording, such as a call of a language model. An empty answer keeps the clause.
    """

    def apply(text: str) -> str:
        return join_clauses([rewrite(clause.text).strip() or clause.text for clause in split_clauses(text)])

    return apply


PERTURBATIONS: dict[str, Perturbation] = {
    "paraphrase": paraphrase,
    "wording": lambda text: paraphrase(text, order=False),
    "clause_order": shuffle_clauses,
    "word_order": shuffle_words,
    "quotes_only": quotes_only,
    "quotes_removed": quotes_removed,
}
"""The perturbations that need no model, by name; the first three keep the meaning."""
