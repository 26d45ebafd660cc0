"""Which vector and matrix units this processor has."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
MATRIX_UNIT = "amx_bf16"
VECTOR_UNIT = "avx512_bf16"
_UNITS = ("avx2", "avx512f", VECTOR_UNIT, MATRIX_UNIT)


def processor_units(cpuinfo: Path = CPUINFO) -> list[str]:
    """Vector and matrix units that matter for speed, as Linux names them.

    Args:
        cpuinfo: Linux's list of what a processor can do; without one the answer is empty.

    Example:
        >>> "avx2" in processor_units()
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return [unit for unit in _UNITS if unit in flags]
