"""Scores of the NLA on states of other layers, row by row."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from docs.studies.real_states import OWN, LayerStates
from docs.studies.smollm2_layers.ways import WAYS, Way, ways
from docs.studies.smollm2_nla.score import another_document, claims
from tl_nla.data.progress import told
from tl_nla.metrics import cosine, normalise

PAIRS = ((14, 16), (16, 18), (14, 18), (16, 20), (12, 20))
CLAIMS = ("last 1", "last 2", "next")
_CAP = 30


@dataclass(frozen=True)
class Layers:
    """What is known of every layer.

    Attributes:
        states: held-out rows.
        ways: to use the NLA on each layer.
        means: of normalised training states.
        step: between two layers, the ridge regression from the lower one's states to the higher one's.
    """

    states: LayerStates
    ways: dict[int, dict[str, Way]]
    means: dict[int, Tensor]
    step: dict[tuple[int, int], Way]

    @classmethod
    def of(cls, states: LayerStates, train: dict[int, Tensor]) -> "Layers":
        """Fit all maps."""
        pairs = [pair for pair in PAIRS if pair[0] in train and pair[1] in train]
        return cls(
            states, {layer: ways(acts, train[OWN]) for layer, acts in train.items()},
            {layer: normalise(acts).mean(0) for layer, acts in train.items()},
            {pair: ways(train[pair[0]], train[pair[1]])["maps"] for pair in pairs},
        )  # fmt: skip


def explained(nla: Any, layers: Layers) -> dict[str, list[str]]:
    """Explanations of every layer's states by every way, as ``WAY/LAYER``; the NLA's own layer has one way."""
    wanted = [(layer, name) for layer in layers.ways for name in (WAYS if layer != OWN else WAYS[:1])]
    found = {}
    for (case,) in told([[case] for case in wanted], "explaining layers"):
        layer, name = case
        acts = layers.ways[layer][name].front(layers.states.acts[layer])
        found[f"{name}/{layer}"] = nla.verbalize(acts, max_new_tokens=_CAP, batch_size=128)
    return found


def explained_by(trained: Any, acts: Tensor) -> tuple[list[str], Tensor]:
    """Explanations of another pair, and what it reads back from them, at norm √d_model."""
    texts = trained.verbalize(acts, max_new_tokens=_CAP, batch_size=128)
    return texts, normalise(trained.reconstruct(texts, 96).float())


def layer_rows(
    nla: Any, layers: Layers, said: dict[str, list[str]], reinforced: dict[int, tuple[list[str], Tensor]]
) -> list[dict[str, Any]]:
    """One row a position: squared errors by arm and layer, claims, and how well differences of layers are told.

    Args:
        nla: the pair of layer 16.
        layers: what is known of each.
        said: its explanations, by arm and layer.
        reinforced: by layer, what :func:`explained_by` gave for a pair that was trained on.
    """
    held = layers.states.held
    back = _read_back(nla, layers, said)
    back["reinforced"] = {layer: read for layer, (_, read) in reinforced.items()}
    said = said | {f"reinforced/{layer}": texts for layer, (texts, _) in reinforced.items()}
    rows: list[dict[str, Any]] = [{"document": name, "errors": {}, "deviation": {}, "claims": {}, "pairs": {}}
                                  for name in held.names]  # fmt: skip
    for layer in layers.ways:
        goal = normalise(layers.states.acts[layer])
        _put(rows, "deviation", str(layer), (goal - layers.means[layer]).square().sum(1))
        for arm, guesses in back.items():
            if layer in guesses:
                _put(rows, "errors", f"{arm}/{layer}", (guesses[layer] - goal).square().sum(1))
    for key, texts in said.items():
        for row, text, gold in zip(rows, texts, held.states.explanations, strict=True):
            found = claims(text, gold)
            row["claims"][key] = {name: found[name] for name in CLAIMS if name in found}
    for pair in layers.step:
        _differences(rows, pair, back, layers)
    return rows


def _read_back(nla: Any, layers: Layers, said: dict[str, list[str]]) -> dict[str, dict[int, Tensor]]:
    """Reconstructions of each layer by arm, at norm √d_model."""
    read = {key: nla.reconstruct(texts, 96).float() for key, texts in said.items()}
    here, others = read[f"as_is/{OWN}"], another_document(layers.states.held.names)
    found: dict[str, dict[int, Tensor]] = {name: {OWN: normalise(here)} for name in WAYS}
    found |= {name: {} for name in ("words_of_16", "shuffled", "no_words")}
    for layer, own in layers.ways.items():
        if layer != OWN:
            for name in WAYS:
                found[name][layer] = normalise(own[name].back(read[f"{name}/{layer}"]))
            found["words_of_16"][layer] = normalise(own["maps"].back(here))
            found["no_words"][layer] = normalise(own["maps"].back(layers.states.acts[OWN]))
        found["shuffled"][layer] = found["maps"][layer][others]
    found["words_of_16"][OWN] = normalise(here)
    return found


def _put(rows: list[dict[str, Any]], field: str, key: str, values: Tensor) -> None:
    for row, value in zip(rows, values.tolist(), strict=True):
        row[field][key] = round(value, 2)


def _differences(
    rows: list[dict[str, Any]], pair: tuple[int, int], back: dict[str, dict[int, Tensor]], layers: Layers
) -> None:
    """How the difference of two layers' reconstructions compares with the true one, both without the mean difference.

    The error is that after the best factor for all rows, one an arm. So a difference that says nothing has FVE 0.
    """
    sides = [normalise(layers.states.acts[layer]) for layer in pair]
    means = [layers.means[layer] for layer in pair]
    truth = (sides[1] - means[1]) - (sides[0] - means[0])
    guesses = {arm: back[arm][pair[1]] - back[arm][pair[0]] for arm in (*WAYS, "words_of_16", "shuffled")}
    if pair[0] == OWN and pair[1] in back["reinforced"]:
        guesses["reinforced"] = back["reinforced"][pair[1]] - back["as_is"][OWN]
    guesses["lower_state"] = normalise(layers.step[pair].front(layers.states.acts[pair[0]])) - sides[0]
    name = f"{pair[0]}-{pair[1]}"
    for row, deviation in zip(rows, truth.square().sum(1).tolist(), strict=True):
        row["pairs"][name] = {"deviation": round(deviation, 2), "cosine": {}, "error": {}}
    for arm, guess in guesses.items():
        centred = guess - guess.mean(0)
        factor = (centred * truth).sum() / centred.square().sum().clamp_min(1e-9)
        errors = (factor.clamp_min(0) * centred - truth).square().sum(1).tolist()
        for row, near, error in zip(rows, cosine(centred, truth).tolist(), errors, strict=True):
            row["pairs"][name]["cosine"][arm] = round(near, 3)
            row["pairs"][name]["error"][arm] = round(error, 2)
