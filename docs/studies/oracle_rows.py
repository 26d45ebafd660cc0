"""Row scores of the embedded oracles, which the studies of heads, layers, spans and questions share."""

from pathlib import Path

from tl_nla.benchmark.oracle_rows import OracleRows, load_rows
from tl_nla.benchmark.oracle_suite import ScoredOracles

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
