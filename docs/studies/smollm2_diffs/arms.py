"""What every arm says about the write of blocks K−1 to K+2, in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from docs.studies.real_states import OWN, LayerStates
from docs.studies.smollm2_diffs.differs import (
    Told,
    model_differences,
    oracle_words,
    text_difference,
    whole_text,
)
from docs.studies.smollm2_layers.ways import Way, ways
from docs.studies.smollm2_nla.score import another_document
from tl_nla.data.progress import told
from tl_nla.oracle.labels import Lens

LOW, HIGH = OWN - 2, OWN + 2
_CAP, _WORDS, _TOLD = 30, 8, 4


@dataclass(frozen=True)
class Explained:
    """Texts about both states, and vectors that are read back from them.

    Attributes:
        texts: by way or seed, explanations of the earlier and of the later state.
        read: what the reconstructor makes of the difference of both, at norm √d_model each.
    """

    texts: dict[str, tuple[list[str], list[str]]]
    read: dict[str, Tensor]


def explain_both(nla: Any, states: LayerStates, train: dict[int, Tensor], seed: int = 0) -> Explained:
    """Explain the states of both layers: greedily, at temperature 1, and the later one twice at temperature 1.

    ``moved`` and ``maps`` are ways to use the NLA on another layer (:mod:`docs.studies.smollm2_layers.ways`).
    ``one_text`` reads the later state's words at both layers: what the maps alone make of words about one state.
    """
    both = {layer: ways(train[layer], train[OWN]) for layer in (LOW, HIGH)}
    acts = {layer: states.acts[layer] for layer in both}
    texts: dict[str, tuple[list[str], list[str]]] = {}
    for (name,) in told([["moved"], ["maps"], ["sampled"]], "explaining both states"):
        way = "moved" if name == "sampled" else name
        sides = []
        for layer in (LOW, HIGH):
            settings: dict[str, Any] = {}
            if name == "sampled":
                settings = {"temperature": 1.0, "generator": torch.Generator().manual_seed(10 * seed + layer)}
            said = nla.verbalize(both[layer][way].front(acts[layer]), max_new_tokens=_CAP, batch_size=100, **settings)
            sides.append(said)
        texts[name] = sides[0], sides[1]
    again = nla.verbalize(both[HIGH]["moved"].front(acts[HIGH]), max_new_tokens=_CAP, batch_size=100, temperature=1.0,
                          generator=torch.Generator().manual_seed(10 * seed + 99))  # fmt: skip
    texts["same_twice"] = again, texts["sampled"][1]
    texts["one_text"] = texts["maps"][1], texts["maps"][1]
    return Explained(texts, {name: read_difference(nla, name, texts[name], both) for name in texts})


def read_difference(nla: Any, name: str, pair: tuple[list[str], list[str]], both: dict[int, dict[str, Way]]) -> Tensor:
    """What the reconstructor reads from the later text minus what it reads from the earlier one.

    Args:
        nla: the pair.
        name: of the arm; it says which way back to the layers is taken.
        pair: earlier and later texts.
        both: ways of the two layers.
    """
    layers = (HIGH, HIGH) if name == "same_twice" else (LOW, HIGH)
    way = "maps" if name in ("maps", "one_text") else "moved"
    low, high = (both[layer][way].back(nla.reconstruct(side, 100).float())
                 for layer, side in zip(layers, pair, strict=True))  # fmt: skip
    return high - low


def tell_writes(smol: Any, states: LayerStates, found: Explained, writes: list[Tensor], before: list[Tensor]
                ) -> tuple[dict[str, list[Told]], list[str], Tensor]:  # fmt: skip
    """Every arm's words about every row.

    Args:
        smol: the model, its tokenizer and its oracle.
        states: the rows.
        found: explanations.
        writes: of the blocks between both states.
        before: the states that they are added to.

    Returns:
        The arms, what the language model said, and what the oracle reads back from its own words.
    """
    arms = {name: [text_difference(*both) for both in zip(*pair, strict=True)] for name, pair in found.texts.items()}
    low, high = found.texts["moved"]
    arms["later_alone"] = [whole_text(text) for text in high]
    arms["earlier_alone"] = [whole_text(text) for text in low]
    said = model_differences(smol.model.original_model, smol.tokenizer, low, high)
    arms["language_model"] = [whole_text(text) for text in said]
    sites = [f"blocks.{layer}" for layer in range(LOW + 1, HIGH + 1)]
    words = [smol.oracle.explain(write, state, words=_TOLD, sites=[site] * len(write))
             for site, write, state in zip(sites, writes, before, strict=True)]  # fmt: skip
    arms["oracle"] = [oracle_words(texts) for texts in zip(*words, strict=True)]
    back = torch.stack([smol.oracle.reconstruct(texts) for texts in words]).sum(0)
    arms["context"] = [whole_text(_last_words(smol.tokenizer, ids)) for ids in states.ids]
    arms["logit_lens"] = _strongest(smol, torch.stack(writes).sum(0))
    arms["shuffled"] = _dealt(arms["moved"], states.held.names)
    return arms, said, back


def _last_words(tokenizer: Any, ids: list[int]) -> str:
    return " ".join(tokenizer.decode(ids[1:]).split()[-_WORDS:])


def _strongest(smol: Any, write: Tensor) -> list[Told]:
    logits = Lens.of(smol.model).logits(write)
    decode = smol.tokenizer.decode
    return [Told(tuple(decode([token]).strip() for token in more), tuple(decode([token]).strip() for token in less),
                 float(row.norm()))
            for row, more, less in zip(write, logits.topk(_WORDS).indices.tolist(),
                                       (-logits).topk(_WORDS).indices.tolist(), strict=True)]  # fmt: skip


def _dealt(said: Sequence[Told], names: list[str]) -> list[Told]:
    return [said[other] for other in another_document(names)]
