"""The adapter that keeps states and writes while a model runs or generates."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.adapters.base import Adapter, refuse_unfit
from tl_nla.adapters.records import ForwardRecord, known_ids, places
from tl_nla.adapters.starts import PassStarts, entry
from tl_nla.adapters.stream import Generated, RunningText, choose_new, known_positions
from tl_nla.errors import InputError, unknown
from tl_nla.model.hooks import HookPair
from tl_nla.model.positions import Positions
from tl_nla.model.reading import Reading, points_of
from tl_nla.model.sites import Site, parse_sites
from tl_nla.nla.inputs import check_ids

_IDS = "embed.hook_in"
_BEFORE_START = ("hook_embed", _IDS)


class ReadingAdapter(Adapter):
    """Keeps states and writes at the chosen positions while the model runs or generates.

    Every position of a text is kept once, and the same readings are kept with and without the key-value cache. Rows
    are numbered on over several texts. Inside the hooks nothing is computed beyond the choice of places; what is kept
    is a detached copy.

    A text starts with its prompt, the first forward pass. A later pass goes on with it when it repeats all columns and
    adds some (generation without the cache) or has a single column (with it). Any other pass starts a new text. So call
    :meth:`reset` between a text and an unrelated text of one token. Chunked prompts and beam search are not followed.
    Rows that ended before others in a batch go on being read, as the model goes on computing them. A pass that broke
    off before its last site leaves nothing. A run that is given states (``start_at_layer``) is read as well when it
    starts at the first site's block or before. Its token ids are not known.

    Args:
        sites: what to read.
        positions: non-negative integers and slices count the row's tokens from the prompt's first, generated ones
            included. Negative ones count back from the prompt's end (-1 is its last token). Boolean masks ``[batch,
            pos]`` choose among the prompt's columns; ``"all"`` is everything.
        generated: read generated tokens as well (``True``), not at all (``False``) or ``"only"`` them. The last
            generated token is never run through the model, so it has no reading.
        attention_mask: of the prompt, 1 for tokens, 0 for padding: padding is neither read nor counted. Without one
            every column counts as a token; a warning says when that looks wrong.

    Raises:
        InputError: for unknown sites or positions.
    """

    def __init__(
        self, sites: Site | str | Sequence[Site | str], positions: Positions = "all", generated: Generated = True,
        attention_mask: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.sites = parse_sites(sites)
        self.positions = known_positions(positions, generated)
        self.generated, self.attention_mask = generated, attention_mask
        self.reset()

    def _explainer(self) -> tuple[Any, str, Collection[str]] | None:
        """What explains the vectors, how a message says so, and by which methods; ``None`` where nothing does."""
        return None

    def reset(self) -> None:
        """Forget all readings; the next forward pass starts a text with row 0."""
        self._model: Any = None
        self._names: tuple[str, ...] = ()
        self._records: list[ForwardRecord] = []
        self._early: dict[str, Tensor] = {}
        self._text: RunningText | None = None
        self._text_start = 0
        self._starts: PassStarts | None = None

    def hooks(self, model: Any) -> list[HookPair]:
        """Hook names and functions that read, and change nothing.

        Args:
            model: the model that they are for; each call starts a new text.

        Raises:
            InputError: for a site that the model does not have, or while readings of another model are held. Also for a
                model of another width than what explains the vectors.
        """
        explainer = self._explainer()
        if explainer is not None:
            refuse_unfit(model, *explainer)
        if self._records and self._model is not model:
            raise InputError("this adapter holds readings of another model; take its results and call reset()")
        known = model.hook_dict
        sites = [site.validate(model, known) for site in self.sites]
        names = dict.fromkeys(name for site in sites for name in points_of(model, site, known))
        for name in (entry(0), *names):
            if name not in known:
                raise unknown("hook point", name, known)
        self._drop_unfinished()
        self._model, self._names, self._text, self._early = model, tuple(names), None, {}
        starts = self._starts = PassStarts(model, names, known)
        pairs: list[HookPair] = [(_IDS, self._keeper(_IDS, starts))] if _IDS in known else []
        keepers = [(name, self._keeper(name, starts)) for name in names]
        return [*pairs, *starts.hooks(self._start), *keepers]

    def reading(self, tokens: Int[Tensor, "batch pos"] | None = None) -> Reading:
        """All that was read, as from :func:`tl_nla.model.reading.read`, ordered by row, then position.

        Args:
            tokens: ids of all rows, as ``generate`` returned them; of use on a ``HookedTransformer`` only, whose hooks
                do not see them. ``reading.tokens`` is -1 where an id is not known.

        Raises:
            InputError: when nothing was read, a position was never reached, or ``tokens`` are too few or no token ids.
        """
        records = [record for record in self._records if self._finished(record)]
        if records and not any(len(record.row) for record in records):
            longest = max(record.first_column + record.width for record in records)
            raise InputError(
                f"positions {self.positions!r} were never reached; the longest text read has {longest} tokens"
                + ("" if self.generated is True else f", and generated is {self.generated!r}")
            )
        if not records:
            raise InputError(
                f"nothing was read at {', '.join(map(str, self.sites))}: run the model with the adapter's hooks first "
                f"(a HookedTransformer passes no hook_embed while it generates; read {entry(0)} there)"
            )
        if self.attention_mask is None and not isinstance(self.positions, Tensor):
            for record in records:
                record.warn_of_padding(getattr(self._model, "tokenizer", None))
        row, column, position = places(records)
        self._check_reached(position)
        ids = known_ids(records)
        if tokens is not None:
            self._check_tokens(tokens, ids)
        order = torch.argsort(row * ids.shape[1] + column)
        values = {
            name: joined[order.to(joined.device)]
            for name in self._names
            for joined in [torch.cat([record.values[name] for record in records])]
        }
        known = ids if tokens is None else tokens.detach().cpu()
        return Reading(self._model, self.sites, known, row[order], position[order], column[order], values)

    def _places(self, reading: Reading) -> list[tuple[int, int, str | None]]:
        """Row, position and decoded token of each reading."""
        tokenizer = getattr(self._model, "tokenizer", None)
        ids = reading.tokens[reading.batch, reading.column].tolist()
        words = [None if tokenizer is None or i < 0 else str(tokenizer.decode([i])) for i in ids]
        return list(zip(reading.batch.tolist(), reading.position.tolist(), words, strict=True))

    def _check_tokens(self, tokens: Any, ids: Tensor) -> None:
        size = int(getattr(self._model.cfg, "d_vocab", 0) or 0)
        check_ids(tokens, size if size > 0 else torch.iinfo(torch.long).max, "tokens")
        if tokens.shape[0] != ids.shape[0] or tokens.shape[1] < ids.shape[1]:
            raise InputError(f"tokens have shape {tuple(tokens.shape)}, the texts that were read {tuple(ids.shape)}")

    def results(self) -> Any:
        """The reading; subclasses make more of it."""
        return self.reading()

    def _start(self, activation: Tensor, layer: int) -> None:
        self._drop_unfinished()
        states = activation.detach()
        given = self._starts is not None and self._starts.given_states() is not None
        if given or layer:  # what an earlier pass showed before its block 0 is none of this one's
            self._early = {}
        if self._text is None or layer != self._text_start or not self._text.goes_on(states):
            last = self._records[-1] if self._records else None
            self._text = RunningText.begin(states, last.first_row + last.batch if last else 0)
            self._text_start = layer
        text = self._text
        first = text.seen.shape[1]
        width = text.extend(states)
        chosen, number = choose_new(text, width, self.positions, self.generated, self.attention_mask)
        row, column = torch.nonzero(chosen, as_tuple=True)
        record = ForwardRecord(text.first_row, len(states), first, width, row, column, number[row, column])
        self._records.append(record)
        early, self._early = self._early, {}
        for name, value in early.items():
            self._keep(name, value)

    def _keeper(self, name: str, starts: PassStarts) -> Callable[..., None]:
        def keep(activation: Tensor, hook: Any) -> None:
            if name in _BEFORE_START:
                self._early[name] = activation.detach()
            elif not starts.discards(name):
                # A finished pass cannot go on; a point may fire several times in one (HookedTransformer's ln1).
                if not self._records or self._finished(self._records[-1]):
                    raise starts.missed(name)
                self._keep(name, activation)

        return keep

    def _keep(self, name: str, activation: Tensor) -> None:
        if name == _IDS:
            self._records[-1].keep_ids(activation)
        else:
            self._records[-1].keep(name, activation)

    def _finished(self, record: ForwardRecord) -> bool:
        return all(name in record.values for name in self._names)

    def _drop_unfinished(self) -> None:
        """Take back a forward pass that broke off, so that it can be run again."""
        if self._records and not self._finished(self._records[-1]):
            record = self._records.pop()
            if self._text is not None:
                self._text.seen = self._text.seen[:, : record.first_column]
                self._text = self._text if record.first_column else None

    def _check_reached(self, position: Tensor) -> None:
        if isinstance(self.positions, list):
            missing = [wanted for wanted in self.positions if wanted >= 0 and not (position == wanted).any()]
            if missing:
                raise InputError(f"position {missing[0]} was never reached; the last one read is {int(position.max())}")


def joined(parts: Sequence[Tensor]) -> Float[Tensor, "rows d_model"]:
    """Values of several sites in one tensor, on the first one's device: a model may be spread over several."""
    return torch.cat([part.to(parts[0].device) for part in parts])
