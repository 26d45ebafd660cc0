"""Row scores of the embedded oracles, which the studies of heads, layers, spans and questions share."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tl_nla.benchmark.oracle_rows import OracleRows
from tl_nla.benchmark.oracle_suite import ScoredOracles
from tl_nla.benchmark.row_store import read_rows, write_rows
from tl_nla.errors import InputError

FOLDER = Path(__file__).parent / "heads" / "rows"
STORED, UNTRAINED = "oracle_rows.safetensors", "oracle_heldout_rows.safetensors"
LONGER, PLATEAU = "oracle_longer_rows.safetensors", "oracle_plateau_rows.safetensors"


def stored(folder: Path = FOLDER) -> ScoredOracles:
    """All stored row scores; only those of the oracles themselves have to be there."""
    parts = load_rows(folder / STORED)
    source = (
        f"row scores of seeds {[part.seed for part in parts]} stored by 'python -m docs.studies tiny --parts oracle'"
    )
    beside = (_where_there(folder / name) for name in (UNTRAINED, LONGER, PLATEAU))
    return ScoredOracles("tiny", parts, source, *beside)


def _where_there(path: Path) -> list[OracleRows]:
    return load_rows(path) if path.is_file() else []


_BASE, _MISSING = 15, 255


def save_rows(parts: Sequence[OracleRows], path: Path) -> None:
    """Store the row scores of several seeds in one safetensors file, in small types."""
    named: dict[str, Tensor] = {}
    texts: dict[str, str] = {}
    for rows in parts:
        texts[str(rows.seed)] = json.dumps([rows.sites, rows.untrained])
        own = {"means": rows.means.half(), "site": rows.site.short(), "document": rows.document.short(),
               "position": rows.position.short(), "deviation": rows.deviation.half()}  # fmt: skip
        own |= {f"errors/{name}": value.half() for name, value in rows.errors.items()}
        own |= {f"counts/{name}": _small(value) for name, value in rows.counts.items()}
        own |= {f"curves/{name}": value.float() for name, value in rows.curves.items()}
        named |= {f"{rows.seed}/{name}": value for name, value in own.items()}
    write_rows(path, named, texts)


def rows_of_seed(path: Path, seed: int) -> OracleRows:
    """Stored row scores of one seed.

    Raises:
        InputError: when the file is missing, or nothing is stored of this seed.
    """
    for rows in load_rows(path):
        if rows.seed == seed:
            return rows
    raise InputError(f"no rows of seed {seed} in {path}; run 'python -m docs.studies tiny --parts oracle'")


def _small(counts: Tensor) -> Tensor:
    """Two numbers a row in one byte where both are small and whole, NaN as ``_MISSING``; else in half precision."""
    known = counts.nan_to_num(nan=0.0)
    if not bool(((known == known.round()) & (known >= 0) & (known < _BASE)).all()):
        return counts.half()
    packed = known[:, 0] * _BASE + known[:, 1]
    return packed.masked_fill(counts.isnan().any(1), _MISSING).to(torch.uint8)


def _plain(stored: Tensor) -> Tensor:
    value = stored.float()
    if stored.dtype != torch.uint8:
        return value
    pair = torch.stack([value.div(_BASE, rounding_mode="floor"), value % _BASE], 1)
    return pair.masked_fill((value == _MISSING)[:, None], torch.nan)


def load_rows(path: Path) -> list[OracleRows]:
    """Row scores stored by :func:`save_rows`, by seed.

    Raises:
        InputError: when the file is missing.
    """
    parts = []
    stored, texts = read_rows(path, "run 'python -m docs.studies tiny --parts oracle'")
    for seed in sorted(texts, key=int):
        found = {name.split("/", 1)[1]: value for name, value in stored.items() if name.startswith(f"{seed}/")}
        sites, untrained = (tuple(listed) for listed in json.loads(texts[seed]))
        site, document, position = (found[name].long() for name in ("site", "document", "position"))
        means, deviation = found["means"].float(), found["deviation"].float()
        rows = OracleRows(int(seed), sites, untrained, means, site, document, position, deviation)
        for kind in ("errors", "counts", "curves"):
            own = {name: _plain(value) for name, value in found.items() if name.startswith(f"{kind}/")}
            getattr(rows, kind).update({name.removeprefix(f"{kind}/"): value for name, value in own.items()})
        parts.append(rows)
    return parts


def store_rows(path: Path, rows: OracleRows) -> None:
    """Put one seed's row scores into the file of all seeds."""
    others = [known for known in load_rows(path) if known.seed != rows.seed] if path.is_file() else []
    save_rows(sorted([*others, rows], key=lambda known: known.seed), path)
