"""What captured writes are told to do: their effects, sources and skips in words, and the answers to questions."""

from typing import Any, NamedTuple

from tl_nla.model.reading import Reading
from tl_nla.model.sites import Site
from tl_nla.oracle.labels import HeadSources, SkipLabels, Vocabulary
from tl_nla.oracle.questions import Answer, make_answer
from tl_nla.oracle.texts import Label

SHARE_FLOOR = 0.04
"""Sources with a smaller share are not counted as read (science notes, section 4a)."""

STRONG_SHARE = 0.15
"""Sources with at least this share are strong ones (there too)."""


class SourceWords(NamedTuple):
    """Words of the distant, of the local and of all sources, of the distant ones too weak to count; strong ones first.

    ``strong`` is how many of the distant ones are strong.
    """

    distant: list[str]
    local: list[str]
    named: list[str]
    weaker: list[str]
    strong: int


def source_words(
    found: HeadSources, site: Site, where: tuple[Reading, list[int]], vocabulary: Vocabulary, config: Any
) -> list[SourceWords]:
    """For each row the words of distant, of local, of all and of weaker sources, strongest first, each word once."""
    (reading, columns), layer, head = where, found.layers.index(int(site.layer or 0)), int(site.head or 0)
    places = [columns.index(column) for column in reading.column.tolist()]
    rows, tokens = reading.batch.tolist(), reading.tokens.tolist()
    two = (found.distant, found.distant_weight), (found.local, found.local_weight)
    both_sides = [(ids[layer, head, rows, places].tolist(), weights[layer, head, rows, places].tolist())
                  for ids, weights in two]  # fmt: skip
    listed = []
    for number, row in enumerate(rows):
        sides = []
        for ids, weights in both_sides:
            pairs = zip(ids[number], weights[number], strict=True)
            told = [(share, place) for place, share in pairs if share >= config.distant_floor]
            sides.append([(share, vocabulary.texts[tokens[row][place]]) for share, place in told])
        read_most = [[source for source in side[: config.sources] if source[0] >= SHARE_FLOOR] for side in sides]
        both = sorted(read_most[0] + read_most[1], reverse=True)
        distant, local, named, pool = (_distinct(side) for side in (*read_most, both, sides[0]))
        weaker = [word for word in pool if word not in distant][: config.sources - len(distant)]
        strong = len(_distinct([source for source in read_most[0] if source[0] >= STRONG_SHARE]))
        listed.append(SourceWords(distant, local, named[: config.sources], weaker, strong))
    return listed


def _distinct(sources: list[tuple[float, str]]) -> list[str]:
    return list(dict.fromkeys(word for _, word in sources if word))


def in_words(
    component: str | None, effects: tuple[list[list[str]], list[list[str]]], sources: list[SourceWords] | None,
    skips: SkipLabels | None, vocabulary: Vocabulary,
) -> tuple[list[Label], list[dict[str, Answer]]]:  # fmt: skip
    """The label of each write of a site, and its right answers."""
    up, down = effects
    labels, answers = [], []
    sizes = [] if skips is None else skips.size.tolist()
    for row, (raised, lowered) in enumerate(zip(up, down, strict=True)):
        read_words = None if sources is None else tuple(sources[row].named)
        labels.append(Label(tuple(raised), tuple(lowered), read_words, component=component))
        answer = {"promotes": make_answer("promotes", tuple(raised)),
                  "suppresses": make_answer("suppresses", tuple(lowered))}  # fmt: skip
        if sources is not None:
            distant, local, _, weaker = (tuple(words) for words in sources[row][:4])
            rest = {"local": local, "weaker": weaker, "strong": sources[row].strong}
            answer["sources"] = make_answer("sources", distant, **rest)
        if skips is not None:
            top = vocabulary.texts[int(skips.skipped_top[row])]
            flips = bool(skips.flips[row])
            answer["skip"] = make_answer("skip", (top,) if top else (), flips=flips, size=sizes[row])
        answers.append(answer)
    return labels, answers
