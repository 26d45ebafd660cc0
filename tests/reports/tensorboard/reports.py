"""Made-up contribution reports: right in form, with numbers and texts that a test can choose."""

from typing import Any

import pytest

PROMPT = ["<s>", "Tom", " went", " to", " the", " park", ".", " Where", " is", " Tom", "?"]
HOSTILE = [
    "a | b || c",
    "one\ntwo\r\nthree",
    "<script>window.hacked = true</script><img src=x onerror='window.hacked = true'>",
    "</option></select><b>bold</b>",
    "x" * 10_000,
    "half a pair \ud83d of surrogates",
    "bell \x07 null \x00 escape \x1b",
    "\u202eright to left\u202c \u200b",
    "![image](data:image/png;base64,AAAA) [link](javascript:alert(1)) ```",
    "",
]


def report(
    tokens: list[str] | None = None, n_layers: int = 3, n_heads: int = 2, explanation: str | None = None, step: int = 0
) -> dict[str, Any]:
    """A report of the last two positions, whose head 1 of layer 1 is the strongest part by far.

    Args:
        tokens: texts of the prompt's tokens.
        n_layers: number of layers.
        n_heads: heads of every layer.
        explanation: words of layer 1, head 1, which otherwise names itself as all do.
        step: makes the numbers differ between steps.
    """
    tokens = PROMPT if tokens is None else tokens
    positions = [len(tokens) - 2, len(tokens) - 1]
    cells = [cell for position in positions for cell in _cells(tokens, position, n_layers, n_heads, step)]
    for cell in cells:
        if explanation is not None and (cell["layer"], cell["head"]) == (1, 1):
            cell["explanation"] = explanation
    parts = [sum(cell["direct"] for cell in cells if _adds(cell, position)) for position in positions]
    return {
        "schema": 1, "model": "made up", "prompt": "".join(tokens), "tokens": tokens, "positions": positions,
        "target": {"kind": "logit", "tokens": [tokens[5 % len(tokens)], tokens[6 % len(tokens)]], "against": []},
        "predictions": [[[tokens[5 % len(tokens)], 0.93], [" farm", 0.0123]], [[".", 0.5], [" sky", 0.25]]],
        "n_layers": n_layers, "n_heads": n_heads, "cells": cells, "explained_by": "oracle",
        "total": {"logit": parts, "sum_of_parts": parts},
    }  # fmt: skip


def _adds(cell: dict[str, Any], position: int) -> bool:
    return cell["position"] == position and cell["component"] not in ("attn", "block")


def _cells(tokens: list[str], position: int, n_layers: int, n_heads: int, step: int) -> list[dict[str, Any]]:
    cells = [_cell(tokens, position, -1, "embed", None, 0.2)]
    for layer in range(n_layers):
        heads = [0.37 * (layer + 1) * (-1) ** (layer + head) + 0.01 * step for head in range(n_heads)]
        if (layer, n_heads > 1) == (1, True):
            heads[1] = 4.25 + 0.01 * step
        mlp, bias = 1.5 - 0.9 * layer, 0.002
        cells += [_cell(tokens, position, layer, "head", head, direct) for head, direct in enumerate(heads)]
        cells += [
            _cell(tokens, position, layer, "bias", None, bias),
            _cell(tokens, position, layer, "attn", None, sum(heads) + bias),
            _cell(tokens, position, layer, "mlp", None, mlp),
            _cell(tokens, position, layer, "block", None, sum(heads) + bias + mlp),
        ]
    return [*cells, _cell(tokens, position, n_layers, "bias", None, -0.125)]


def _cell(
    tokens: list[str], position: int, layer: int, component: str, head: int | None, direct: float
) -> dict[str, Any]:
    skipped, reads = component not in ("embed", "bias"), component in ("head", "attn")
    name = f"layer {layer}, head {head}" if component == "head" else f"layer {layer}, {component}"
    return {
        "layer": layer, "component": component, "head": head, "position": position, "direct": direct,
        "skip_kl": direct**2 / 10 if skipped else None, "skip_target_change": -direct / 2 if skipped else None,
        "skip_flip": direct > 4, "strength": None if component == "embed" else abs(direct) / 10,
        "sources": [[tokens[1], 0.71], [tokens[5 % len(tokens)], 0.2]] if reads else [],
        "source_positions": [1, 5 % len(tokens)] if reads else [],
        "promoted": [" park", " farm"], "suppressed": [" sky"], "explanation": f"What {name} writes.",
    }  # fmt: skip


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Hold an unpacked report against the one that was packed: all is the same but the last digits of numbers."""
    shown = {name: value for name, value in found.items() if name != "cells"}
    assert shown == {name: value for name, value in wanted.items() if name != "cells"}
    key = lambda cell: (cell["position"], cell["layer"], cell["component"], str(cell["head"]))  # noqa: E731
    pairs = list(zip(sorted(found["cells"], key=key), sorted(wanted["cells"], key=key), strict=True))
    for ours, theirs in pairs:
        for name in ("direct", "skip_kl", "skip_target_change", "strength"):
            rounded = None if theirs[name] is None else pytest.approx(theirs[name], rel=6e-4, abs=6e-5)
            assert ours[name] == rounded, name
        assert [(text, round(share, 2)) for text, share in ours["sources"]] == [
            (text, pytest.approx(share, abs=0.006)) for text, share in theirs["sources"]
        ]
        rest = ("layer", "component", "head", "position", "skip_flip", "source_positions", "promoted", "suppressed")
        for name in (*rest, "explanation"):
            assert ours[name] == theirs[name], name
