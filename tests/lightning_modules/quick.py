"""The shortest settings of an oracle's training, but for what a test says."""

from dataclasses import replace

from lightning_modules.data.oracle_config import QUICK, OracleConfig


def quick(sizes=(), lengths=(), sources=(), **settings) -> OracleConfig:
    """``QUICK`` with other values, those of nested settings as mappings; five documents, three held out.

    Args:
        sizes: of :class:`CaptureSizes`.
        lengths: of :class:`StageLengths`.
        sources: of :class:`SourceSlotConfig`; ``None`` for no slots.
        settings: of :class:`OracleConfig` itself.
    """
    few = {"documents": 5, "skip_documents": 2, "held_documents": 3, "held_positions": 1}
    return replace(
        QUICK,
        sizes=replace(QUICK.sizes, **few | dict(sizes)),
        lengths=replace(QUICK.lengths, **dict(lengths)),
        sources=None if sources is None else replace(QUICK.sources, **dict(sources)),
        **settings,
    )
