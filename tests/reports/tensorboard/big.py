"""Reports as large as those of real models: made up, but with the structure, the words and the spread of real ones."""

import random
from typing import Any

WORDS = [
    f"{start}{middle}{end}"
    for start in ("Par", "Lon", "Mar", "Ber", "Tok", "Kan", "sel", "tor", "bri", "cho")
    for middle in ("", "a", "el", "i", "ou")
    for end in ("is", "don", "lin", "yo", "gar", "mel", "tic", "ner")
]


def big_report(
    n_layers: int = 30, n_heads: int = 9, n_tokens: int = 256, positions: int = 16, seed: int = 0
) -> dict[str, Any]:
    """A report of the last positions of a prompt.

    Head 1 of the last layer but one promotes `Paris` at the last position and reads `France`, and no other does both.

    Args:
        n_layers: blocks.
        n_heads: heads a block.
        n_tokens: tokens of the prompt; the one before the last is ` France`.
        positions: how many of them are reported, the last ones.
        seed: of the numbers and words.
    """
    draw = random.Random(seed)
    tokens = [f" {draw.choice(WORDS)}" for _ in range(n_tokens)]
    tokens[-2], tokens[0] = " France", "<s>"
    columns = list(range(n_tokens - positions, n_tokens))
    parts = [(-1, "embed", None)]
    for layer in range(n_layers):
        parts += [(layer, "head", head) for head in range(n_heads)]
        parts += [(layer, name, None) for name in ("bias", "attn", "mlp", "block")]
    parts.append((n_layers, "bias", None))
    cells = [_cell(draw, tokens, part, column, n_layers) for part in parts for column in columns]
    wanted = next(
        cell for cell in cells if (cell["layer"], cell["head"], cell["position"]) == (n_layers - 2, 1, n_tokens - 1)
    )
    wanted.update(direct=9.5, skip_kl=3.25, skip_target_change=-2.5, skip_flip=True, promoted=["Paris", "Rome"],
                  sources=[[" France", 0.8]], source_positions=[n_tokens - 2], explanation="It promotes Paris Rome; "
                  f"suppresses {' '.join(wanted['suppressed'])}; attended France")  # fmt: skip
    totals = [0.0] * positions
    for cell in cells:
        if cell["component"] not in ("attn", "block"):
            totals[cell["position"] - columns[0]] += cell["direct"]
    return {
        "schema": 1, "model": f"{n_layers} layers of {n_heads} heads", "prompt": "".join(tokens), "tokens": tokens,
        "positions": columns, "target": {"kind": "logit", "tokens": [" Paris"] * positions, "against": []},
        "predictions": [[[" Paris", 0.75], [" Rome", 0.1]]] * positions, "n_layers": n_layers, "n_heads": n_heads,
        "cells": cells, "explained_by": "labels", "notes": [],
        "cards": {f"blocks.{n_layers - 2}.attn.head.1": "Names the capital of a country that was read."},
        "total": {"logit": totals, "sum_of_parts": totals, "unaccounted": [0.0] * positions,
                  "unaccounted_share": [0.0] * positions},
    }  # fmt: skip


def _cell(
    draw: random.Random, tokens: list[str], part: tuple[int, str, int | None], column: int, n_layers: int
) -> dict[str, Any]:
    layer, component, head = part
    skipped, reads = component not in ("embed", "bias"), component in ("head", "attn")
    size = draw.expovariate(1.0) ** 2 * (0.05 + 0.4 * max(layer, 0) / n_layers)
    direct = 0.0 if component == "bias" else draw.choice((-1, 1)) * size
    up, down = ([draw.choice(WORDS[1:]) for _ in range(4)] for _ in range(2))
    places = [draw.randrange(column + 1) for _ in range(3)] if reads and layer >= 0 else []
    read = f"; attended {' '.join(dict.fromkeys(tokens[place].strip() for place in places))}" if reads else ""
    return {
        "layer": layer, "component": component, "head": head, "part": "attn", "position": column, "direct": direct,
        "skip_kl": size**2 / 10 if skipped else None, "skip_target_change": -direct / 2 if skipped else None,
        "skip_flip": skipped and size > 4, "strength": draw.expovariate(8) if component != "embed" else None,
        "sources": [[tokens[place], share] for place, share in zip(places, (0.5, 0.2, 0.1), strict=False)],
        "source_positions": places, "promoted": up, "suppressed": down,
        "explanation": f"It promotes {' '.join(up)}; suppresses {' '.join(down)}{read}",
    }  # fmt: skip
