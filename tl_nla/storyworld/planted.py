"""Facts told early in a story and needed late, as the benchmark of verbalizers asks for them."""

import random

from tl_nla.benchmark.verbalizers.tasks.planted import PlantedFact
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.storyworld.generator import join_words, write_story
from tl_nla.storyworld.lexicon import COLOURS, CONTAINERS, FEELINGS, NAMES, OBJECTS, PLACES

_FAR, _OPTIONS, _STRIDE, _LATE = 15, 10, 10_000, 500_000
_POOLS = {"where": PLACES, "what": OBJECTS, "colour": COLOURS, "feeling": FEELINGS, "who": NAMES, "inside": CONTAINERS}


def planted(count: int, seed: int = 0) -> list[PlantedFact]:
    """Places in held-out stories where the next word is decided by a fact told at least fifteen words before.

    Args:
        count: how many facts, one a story at most.
        seed: private; another seed gives other stories.

    Example:
        >>> planted(2)[0].options
        (' kitchen', ' garden', ...)
    """
    facts: list[PlantedFact] = []
    index = _LATE + seed * _STRIDE
    while len(facts) < count:
        story = write_story(HELD_OUT_SEED, index)
        rng = random.Random(f"{seed}/{index}")
        far = [one for one in story.recalls if one.word - one.seen >= _FAR and len(_POOLS[one.claim]) >= _OPTIONS]
        index += 1
        if not far:
            continue
        recall = rng.choice(far)
        others = rng.sample([word for word in _POOLS[recall.claim] if word != recall.answer], _OPTIONS - 1)
        options = sorted(f" {word}" for word in (*others, recall.answer))
        text = join_words(list(story.words[: recall.word]))
        facts.append(PlantedFact(index, text, f" {recall.answer}", tuple(options)))
    return facts
