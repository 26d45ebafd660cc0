"""A capture of states whose explanations are the verbalizer's own best ones, for it to learn (rejection sampling)."""

from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from tl_nla.amounts import check_count
from tl_nla.benchmark.verbalizers.verbalizer import weights_mark
from tl_nla.data.progress import told
from tl_nla.data.shards import (
    Shard,
    Texts,
    begin_capture,
    finish_capture,
    is_whole,
    read_index,
    read_settings,
    read_shard,
    shard_path,
    write_shard,
)
from tl_nla.errors import InputError
from tl_nla.model.control import cleaner
from tl_nla.nla import BestOf
from tl_nla.nla.prompts import CLOSE, OPEN
from tl_nla.paths import user_path


def choose_explanations(
    pair: BestOf, source: str | Path, out: str | Path, rows: int | None = None, **settings: Any
) -> dict[str, Any]:
    """Keep a capture's states again, with what a best of several says of those to train on.

    :class:`lightning_modules.CapturedDataModule` serves the result, and
    :class:`lightning_modules.VerbalizerWarmStart` teaches it (rejection-sampling fine-tuning, as in Dong et al. 2023,
    RAFT). Held-out rows keep what the explainer wrote. So does a row none of whose explanations can be taught. A run
    that was interrupted goes on with the first file that is not there.

    Args:
        pair: says several explanations of a state and keeps the best.
        source: folder of a finished capture (``cache_dir``).
        out: folder of the new one.
        rows: states to train on, the first of each file in an even share; all when ``None``.
        settings: of the pair's ``generate``, such as ``max_new_tokens`` and ``batch_size``.

    Returns:
        The index of the new capture.

    Raises:
        InputError: when ``pair`` is no ``BestOf``, explains another site, or cannot take the settings. Also when
            ``source`` is no finished capture, or ``out`` is ``source``, or holds one of another pair or other settings.

    Example:
        >>> choose_explanations(BestOf(nla, 8), "runs/states", "runs/chosen", rows=4096)
    """
    if not isinstance(pair, BestOf) or not hasattr(pair.pair, "site"):
        found = type(pair.pair if isinstance(pair, BestOf) else pair).__name__
        raise InputError(f"{found} chooses nothing, or names no site; give BestOf(nla, samples=8) of an NLA")
    source, out = user_path(source), user_path(out)
    index, known = read_index(source), read_settings(source)
    files = index["shards"]
    if known.get("site") not in (None, pair.site):
        raise InputError(f"{source} holds states of {known['site']}; this pair explains {pair.site}")
    if rows is not None and check_count("rows", rows) > index["train"]:
        raise InputError(f"rows is {rows}; {source} has {index['train']} states to train on")
    if source.resolve() == out.resolve():
        raise InputError(f"{source} is the capture that is read; give another folder")
    some = next(source / file["file"] for file in files if file["rows"])
    pair.generate(read_shard(some).acts[:1].float(), **settings)  # a wrong setting leaves no folder behind
    begin_capture(out, {**known, "chosen": _about(pair, rows, settings)})
    shares = _shares([int(file["train"]) for file in files], index["train"] if rows is None else rows)
    for number, share in enumerate(told(shares, "choosing explanations")):
        if not is_whole(shard_path(out, number)):
            shard = read_shard(source / files[number]["file"])
            write_shard(out, number, _chosen(pair, shard, len(share), settings))
    return finish_capture(out, len(files))


def _about(pair: BestOf, rows: int | None, settings: dict[str, Any]) -> dict[str, Any]:
    """What decides the words: a run that goes on with another pair is refused."""
    words = {name: value for name, value in settings.items() if name not in ("batch_size", "progress")}
    weights = [weights_mark(part) for part in (pair.verbalizer, pair.reconstructor)]
    drawn = {"samples": pair.samples, "temperature": pair.temperature, "seed": pair.seed}
    return {**drawn, "rows": rows, "weights": weights, **words}


def _shares(sizes: list[int], wanted: int) -> list[range]:
    """As many rows of each file as its size asks for, ``wanted`` in all."""
    ends = [wanted * end // sum(sizes) for end in accumulate(sizes)]
    return [range(end - before) for before, end in zip([0, *ends], ends, strict=False)]


def _chosen(pair: BestOf, shard: Shard, count: int, settings: dict[str, Any]) -> Shard:
    """A shard with fewer rows to train on, which say what the pair says, and all of its held-out rows."""
    rows = [*range(count), *range(shard.train, len(shard))]
    texts = [shard.explanations[row] for row in rows]
    if count:
        found = pair.generate(shard.acts[:count].float(), **settings)
        clean, marker = cleaner(pair.verbalizer.tokenizer), pair.verbalizer.prompt.char
        said = [clean(text.replace(marker, "")).strip() for text in found.texts]
        good = [bool(text) and OPEN not in text and CLOSE not in text for text in said]
        rows_said = zip(said, good, found.extracted.tolist(), texts[:count], strict=True)
        texts[:count] = [text if usable and extracted else written for text, usable, extracted, written in rows_said]
    return replace(
        shard, acts=shard.acts[rows], explanations=Texts.pack(texts),
        contexts=Texts.pack([shard.contexts[row] for row in rows]), document=shard.document[rows],
        position=shard.position[rows], train=count,
    )  # fmt: skip
