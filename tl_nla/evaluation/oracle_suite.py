"""What suites ``heads``, ``layers``, ``spans``, ``questions`` share: where row scores come from, and FVE rows."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tl_nla.cli.options import output_folder
from tl_nla.data.lines import JSON_SUFFIXES
from tl_nla.errors import InputError
from tl_nla.evaluation.bootstrap import fve_interval, ratio_interval
from tl_nla.evaluation.oracle_rows import KINDS, UNREFINED, OracleRows, load_rows
from tl_nla.evaluation.results import Row
from tl_nla.sites import Site

STORED = Path(__file__).parent.parent / "storyworld" / "weights" / "oracle_rows.safetensors"
STORED_UNTRAINED = STORED.with_name("oracle_heldout_rows.safetensors")
"""Of a run that left a quarter of the heads out; the embedded oracle was trained on all."""
STORED_LONGER = STORED.with_name("oracle_longer_rows.safetensors")
"""Of readers that were trained longer than those of the stored rows."""
STORED_PLATEAU = STORED.with_name("oracle_plateau_rows.safetensors")
"""Of a network on the model's own run on raw context, with words and without."""
ATTENTION_ARMS = ("sum_of_heads", "cat_long")
"""Arms of attentions only."""
DEFINITION = {
    "fve": "1 - sum|p-g|^2 / sum|g-m|^2; p, g writes L2-normalised to sqrt(d_model), m the training set's mean over "
    "all components; text -> vector by a trained reconstructor",
    "intervals": "95%, bootstrap over documents and seeds",
    "explanation": "greedy words of the diff oracle, read by its reconstructor",
    "gold": "label text computed from the model, read by the same reconstructor",
    "cat": "component and the last tokens of the raw text, as many as the explanation has, read by a reconstructor of "
    "its own with the same start, rows, steps and learning rate",
    "cat_and_explanation": "both texts, read by a reconstructor of its own trained alike (on label texts)",
    "cat_and_shuffled": "the same reconstructor given the explanation of another document's write of the component",
    "state": "component and the tokens that the state before the write promotes and suppresses, with a reconstructor "
    "of its own trained alike",
    "component": "the component's mean training write: the best that a reader of its name alone can do",
    "shuffled": "the explanation of another document's write of the same component",
    "probe": "ridge regression of the component's write on the state before it (a probe that also saw the write would "
    "copy it)",
    "fve/increment": "FVE of the arm minus FVE of cat, on the same rows",
    "fve/step_N": "FVE after N steps of the arm's reconstructor (learning curve, no interval)",
    "own_run": "what the component writes when the model reads only the context of cat; nothing is trained",
    "heldout": "stories that no training reads; components that were trained on",
    "heldout_heads": "the same stories; a quarter of the heads, which nothing was trained on. Of the embedded model: a "
    "run of its own (fewer steps, labels with every token), since the embedded oracle was trained on all heads",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options for models other than the embedded one, for which an oracle is trained first."""
    parser.add_argument(
        "--oracle", type=output_folder, default=None, metavar="DIR", help="save the trained oracle here"
    )
    parser.add_argument("--texts", default=None, metavar="FILE", help="text or JSON-lines file (default: stories)")
    parser.add_argument("--documents", type=int, default=None, metavar="N", help="training documents")
    parser.add_argument("--steps", type=int, default=None, metavar="N", help="steps of every part")
    parser.add_argument(
        "--precision",
        default=None,
        metavar="P",
        help="matrix products of the training: highest (default), high, medium",
    )
    parser.add_argument(
        "--injection-char", default=None, metavar="C", help="the oracle's marker (default: one is chosen, or added)"
    )


def gather(
    model: str, oracle: Path | None = None, texts: str | None = None, documents: int | None = None,
    steps: int | None = None, precision: str | None = None, prepend_bos: bool | None = None,
    injection_char: str | None = None,
) -> tuple[list[OracleRows], dict[str, Any]]:  # fmt: skip
    """Row scores: the stored ones for ``"tiny"``, those of an oracle trained now for any other model.

    Returns:
        Row scores by seed, and what to say of where they come from.

    Raises:
        InputError: for options that mean nothing for the embedded model, or when its rows are missing.
    """
    given = [name for name, value in (("--oracle", oracle), ("--texts", texts), ("--documents", documents),
                                      ("--steps", steps), ("--precision", precision),
                                      ("--prepend-bos", prepend_bos), ("--injection-char", injection_char))
             if value is not None]  # fmt: skip
    if model == "tiny":
        if given:
            raise InputError(f"{given[0]} is for models whose oracle is trained now; the embedded one is trained")
        parts = load_rows(STORED)
        source = f"row scores of seeds {[part.seed for part in parts]} stored by 'tl-nla rebuild-tiny --parts oracle'"
        return parts, {**DEFINITION, "source": source}
    config = replace(_config(documents, steps, precision or "highest"), injection_char=injection_char)
    rows, config = _train_now(model, oracle, texts, config, prepend_bos)
    source = f"an oracle trained now: {config.reader_steps} reader steps, {config.steps} steps of each reconstructor"
    return [rows], {**DEFINITION, "source": source}


def _config(documents: int | None, steps: int | None, precision: str) -> Any:
    from lightning_modules.oracle_data import SMALL

    for name, value in (("--documents", documents), ("--steps", steps)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; at least 1 is needed")
    config = replace(SMALL, precision=precision, documents=documents or SMALL.documents)
    return config if steps is None else replace(config, steps=steps, reader_steps=steps)


def _train_now(
    model: str, save: Path | None, texts: str | None, config: Any, prepend_bos: bool | None
) -> tuple[OracleRows, Any]:
    from lightning_modules.rebuild_oracle import build_oracle
    from tl_nla.data import jsonl_documents, split_documents, text_file_documents, world_documents
    from tl_nla.targets import load_target, model_folder

    count = config.documents
    if texts is None:
        train, held = world_documents(count, 0), world_documents(max(4, min(config.held_documents, count // 4)), 1)
    else:
        read = jsonl_documents if texts.endswith(JSON_SUFFIXES) else text_file_documents
        train, held = split_documents(read(texts, limit=count), 0.15)
        held = held[: config.held_documents]
        if len(held) < 2 or not train:
            raise InputError(f"{texts} gives {len(train)} documents to train on and {len(held)} held out; give more")
    config = replace(config, skip_documents=max(1, min(config.skip_documents, len(train) // 3)))
    target = load_target(model, prepend_bos)
    built, rows = build_oracle(target, model_folder(model), train, held, config, 0)
    if save is not None:
        built.save_pretrained(save)
    return rows, config


def untrained_parts(model: str, parts: Sequence[OracleRows]) -> list[OracleRows]:
    """Rows of runs that left heads out: these where they did, else those stored for the embedded model."""
    own = [part for part in parts if part.untrained]
    if own or model != "tiny" or not STORED_UNTRAINED.is_file():
        return own
    return load_rows(STORED_UNTRAINED)


def trained_on_them(parts: Sequence[OracleRows], untrained: Sequence[OracleRows]) -> list[OracleRows]:
    """Rows of oracles that know the heads that others of the same seed left out, told apart as those others' are.

    Those that left heads out have linear heads alone, so the others' refinements are left out, too.

    Args:
        parts: of oracles that were trained on all heads; others are passed over.
        untrained: of oracles that were not.
    """
    left_out = {part.seed: part.untrained for part in untrained}
    return [replace(part.unrefined(), untrained=left_out[part.seed])
            for part in parts if part.seed in left_out and not part.untrained]  # fmt: skip


def longer_parts(model: str) -> list[OracleRows]:
    """Rows of readers trained longer than the stored ones; none for other models, where ``--steps`` is chosen."""
    return load_rows(STORED_LONGER) if model == "tiny" and STORED_LONGER.is_file() else []


def plateau_parts(model: str) -> list[OracleRows]:
    """Rows of the network on the model's own run on raw context; none for other models."""
    return load_rows(STORED_PLATEAU) if model == "tiny" and STORED_PLATEAU.is_file() else []


def generator() -> torch.Generator:
    """The source of every interval's draws."""
    return torch.Generator().manual_seed(0)


def joined(parts: Sequence[OracleRows], arm: str, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Errors, deviations, documents and seeds of an arm on chosen rows of each seed."""
    pairs = list(zip(parts, chosen, strict=True))
    return (
        torch.cat([part.errors[arm][rows].double() for part, rows in pairs]),
        torch.cat([part.deviation[rows].double() for part, rows in pairs]),
        torch.cat([part.document[rows] for part, rows in pairs]),
        torch.cat([torch.full((len(rows),), part.seed) for part, rows in pairs]),
    )


def fve_rows(
    parts: Sequence[OracleRows], arms: Sequence[str], kind: str, metric: str = "fve", split: str = "heldout",
    heads: bool = False,
) -> list[Row]:  # fmt: skip
    """FVE of every arm: over all components of a kind, for each layer and, if wanted, for each head."""
    rows: list[Row] = []
    for arm in arms:
        having = [part for part in parts if arm in part.errors]
        for where, chosen in _places(having, kind, split == "heldout", heads):
            terms = joined(having, arm, chosen)
            rows.append(Row.of(arm, metric, fve_interval(*terms, generator=generator()), split, **where))
    return rows


def increment_rows(
    parts: Sequence[OracleRows], arms: Sequence[str], kind: str, metric: str = "fve/increment", base: str = "cat"
) -> list[Row]:
    """FVE of arms minus that of another, on the same rows, over all components of a kind and for each layer."""
    rows: list[Row] = []
    for arm in arms:
        having = [part for part in parts if arm in part.errors and base in part.errors]
        for where, chosen in _places(having, kind, True, False):
            one, deviation, documents, seeds = joined(having, arm, chosen)
            other = joined(having, base, chosen)[0]
            interval = ratio_interval(other - one, deviation, documents, seeds, generator=generator())
            rows.append(Row.of(arm, metric, interval, **where))
    return rows


def curve_rows(parts: Sequence[OracleRows], kind: str, name: str = "fve") -> list[Row]:
    """Learning curves: FVE of each arm's reconstructor at several step counts, the mean over seeds."""
    column = 1 + KINDS.index(kind)
    rows = []
    for arm in sorted({arm for part in parts for arm in part.curves}):
        tables = [part.curves[arm] for part in parts if arm in part.curves]
        for line in range(len(tables[0])):
            values = [float(table[line, column]) for table in tables]
            if all(value == value for value in values):
                metric = f"{name}/step_{int(tables[0][line, 0])}"
                rows.append(Row(arm, metric, sum(values) / len(values), None, None, len(values)))
    return rows


def all_arms(parts: Sequence[OracleRows]) -> list[str]:
    """Arms that some seed has, in the order in which they were scored."""
    return list(dict.fromkeys(arm for part in parts for arm in part.errors if not arm.startswith(UNREFINED)))


def _places(
    parts: Sequence[OracleRows], kind: str, trained: bool, heads: bool
) -> list[tuple[dict[str, Any], list[Tensor]]]:
    whole = [part.rows_of(kind, trained) for part in parts]
    if not parts or not all(len(rows) for rows in whole):
        return []
    places: list[tuple[dict[str, Any], list[Tensor]]] = [({}, whole)]
    sites = [Site.parse(site) for site in parts[0].sites]
    wanted: list[dict[str, Any]] = [
        {"layer": layer}
        for layer in sorted({site.layer for site in sites if site.kind == kind and site.layer is not None})
    ]
    if heads:
        wanted += [{"layer": site.layer, "head": site.head} for site in sites if site.kind == "head"]
    for where in wanted:
        matching = {place for place, site in enumerate(sites) if all(getattr(site, k) == v for k, v in where.items())}
        chosen = [
            rows[torch.isin(part.site[rows], torch.tensor(sorted(matching)))]
            for part, rows in zip(parts, whole, strict=True)
        ]
        # Every seed leaves out other heads: seeds without this one are left out of its number.
        if all(len(rows) for rows in chosen):
            places.append((dict(where), chosen))
    return places
