"""What ``demo`` and ``verbalize`` share: load a model with its NLA, explain a text token by token."""

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_nla.errors import InputError

if TYPE_CHECKING:
    from tl_nla.model.placement import Placement
    from tl_nla.model.text import TextTokens


def pair_of(args: argparse.Namespace) -> tuple[Any, Any]:
    """The target and its NLA, as ``--model``, ``--nla`` and the options of ``add_target`` ask for."""
    from tl_nla.cli.options import own_placement, placement_of

    return load_pair(args.model, args.nla, args.prepend_bos, placement_of(args), **own_placement(args))


def wrapped_pair_of(args: argparse.Namespace) -> tuple[Any, Any]:
    """The target and its NLA, wrapped as the options of ``add_choices`` ask for.

    Raises:
        InputError: as of :func:`load_pair`, and for ``--best-of`` with ``--beams``.
    """
    from tl_nla.nla import BeamSearch, BestOf, SureWords

    if args.best_of > 1 and args.beams > 1:
        raise InputError("--best-of and --beams choose explanations in two ways; give one of them")
    target, nla = pair_of(args)
    if args.best_of > 1 or args.beams > 1:
        nla = BestOf(nla, args.best_of) if args.best_of > 1 else BeamSearch(nla, args.beams)
    return target, nla if args.sure is None else SureWords(nla, args.sure)


def load_pair(
    model: str, folders: list[str] | None, prepend_bos: bool | None = None, placement: "Placement | None" = None,
    **own: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """The target and the NLA that belongs to it.

    Args:
        model: ``tiny``, a local folder or a hub id.
        folders: verbalizer and reconstructor, or one that holds both; ``tiny`` and ``smollm2`` need none.
        prepend_bos: see :func:`tl_nla.model.targets.load_target`.
        placement: of the target.
        own: precision and device of the NLA, as of its ``from_pretrained``.

    Raises:
        InputError: when another model comes without an NLA, or with one of another size.
    """
    from tl_nla.model.targets import load_target
    from tl_nla.nla import NLA
    from tl_nla.plugins import embedded, named, part

    plugin = named(model)
    if folders is None and plugin is not None:
        found = load_target(model, prepend_bos, placement)
        return found, plugin.nla(found.model)
    if folders is None and embedded(model) is None:
        raise InputError(
            f"--model {model!r} needs its NLA: add --nla AV AR (folders or hub ids in the released format), or one "
            "folder that holds both"
        )
    if folders is not None and len(folders) > 2:
        raise InputError(
            f"--nla was given {len(folders)} names; give verbalizer and reconstructor, or one folder; "
            "a text stands before --nla"
        )
    target = load_target(model, prepend_bos, placement)
    names = folders or [str(part(model, "av")), str(part(model, "ar"))]
    nla = NLA.from_pretrained(names[0], names[1] if names[1:] else None, **own)
    if nla.d_model != int(target.model.cfg.d_model):
        raise InputError(
            f"the NLA reads vectors of size {nla.d_model}, {model!r} has d_model {target.model.cfg.d_model}"
        )
    return target, nla


def encode_text(target: Any, text: str) -> "TextTokens":
    """Token ids of a text, checked against the context; a note says where a file has this very name.

    Raises:
        InputError: when the text is empty, too long, no UTF-8, or has tokens that the model does not know.
    """
    from tl_nla.model.text import TextEncoder

    with suppress(OSError, ValueError):  # most texts cannot be a path at all
        if Path(text).is_file():
            sys.stderr.write(f"note: {text!r} is read as a text, not as the file of that name\n")
    tokens = TextEncoder(target.tokenizer, target.model)(text)
    if len(tokens) == tokens.added:
        raise InputError("the text is empty; give at least one word")
    size = int(target.model.cfg.d_vocab)
    if max(tokens.ids) >= size:
        raise InputError(
            f"the tokenizer of {target.name!r} gives token {max(tokens.ids)}, the model knows {size} tokens; they do "
            "not belong together"
        )
    context = int(target.model.cfg.n_ctx)
    if len(tokens) > context:
        raise InputError(f"the text has {len(tokens)} tokens, the model's context is {context}; shorten it")
    return tokens


def explain_text(
    target: Any, nla: Any, text: str, last: int | None = None, progress: bool = False
) -> list[dict[str, Any]]:
    """Explain every token of a text.

    Returns:
        One dictionary a token: ``position, token, explanation, extracted, fve, cosine, claims``; the claims carry
        ``type, subject, value, verdict``.
    """
    from tl_nla.data import Document
    from tl_nla.data.explained import StateCapture, explain_states
    from tl_nla.explainers import explain_mechanically
    from tl_nla.faithfulness.grammar import NO_GRAMMAR, grammar_for
    from tl_nla.metrics import cosine, squared_deviations, squared_errors
    from tl_nla.plugins import embedded, named

    tokens, document = encode_text(target, text), Document("text", text)
    point = f"blocks.{nla.layer}.hook_resid_post"
    plugin = embedded(target.name) or named(target.name)
    explainer = explain_mechanically if plugin is None else plugin.explainer(point)
    states = explain_states(
        target.model, target.tokenizer, [document], point, None, tokens.added, StateCapture(explainer=explainer)
    )
    keep = slice(-last, None) if last else slice(None)
    acts, truths, positions = states.acts[keep], states.truths[keep], states.position[keep].tolist()
    generation = nla.generate(acts, progress=progress)
    vectors = nla.reconstruct(generation.texts)
    errors = squared_errors(vectors, acts, ~generation.extracted)
    spread = None if nla.mean is None else squared_deviations(acts, nla.mean)
    rows = []
    with grammar_for(NO_GRAMMAR if plugin is None else plugin.GRAMMAR):
        claims = [checked_claims(said, truth) for said, truth in zip(generation.texts, truths, strict=True)]
    for row, position in enumerate(positions):
        rows.append({
            "position": position,
            "token": target.tokenizer.decode([tokens.ids[position]]),
            "explanation": generation.texts[row],
            "extracted": bool(generation.extracted[row]),
            "fve": None if spread is None else 1 - float(errors[row] / spread[row]),
            "cosine": float(cosine(vectors[row : row + 1], acts[row : row + 1])[0]),
            "claims": claims[row],
        })  # fmt: skip
    return rows


def checked_claims(explanation: str, truth: Any) -> list[dict[str, str]]:
    """The claims of an explanation with their verdicts, ``type, subject, value, verdict``; none without a truth."""
    from dataclasses import asdict

    from tl_nla.faithfulness.grammar import check, made_claims

    if truth is None:
        return []
    return [{**asdict(claim), "verdict": check(claim, truth)} for claim in made_claims(explanation, truth)]
