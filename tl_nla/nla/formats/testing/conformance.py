"""Checks of a loaded pair or oracle against its own description, by the slow way: one row, whole model, no cache."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.metrics.functional import cosine
from tl_nla.model.families import decoder_layers, text_backbone
from tl_nla.nla.activation_oracle import ActivationOracle
from tl_nla.nla.batching import evaluating
from tl_nla.nla.injection import Injection
from tl_nla.nla.pair import NLA
from tl_nla.nla.prompts import render_prompt
from tl_nla.nla.slot_reader import changing, slot_embeddings

_TOLERANCE = 1e-3
"""Largest error, as a share of the numbers' own size; weights in bfloat16 get twenty times as much."""
_TEXTS = ("The ball is red.", "x", "A longer explanation, with a comma and more words than the others have")


@dataclass(frozen=True)
class ConformanceRow:
    """One thing that was checked.

    Attributes:
        what: it is.
        passed: whether it is as described.
        detail: what was found.
    """

    what: str
    passed: bool
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for tables and JSON."""
        return asdict(self)


def check_pair(nla: NLA) -> list[ConformanceRow]:
    """Check a loaded pair: prompt, marker, injection, extraction, layer, pooling, head, training mean.

    Args:
        nla: as from :meth:`tl_nla.NLA.from_pretrained`; left as it is.

    Returns:
        One row each; a folder that cannot even be loaded is told by the error of loading.
    """
    verbalizer, prompt = nla.verbalizer, nla.verbalizer.prompt
    injection, model = verbalizer.injection, verbalizer.model
    return _run(
        ("prompt", lambda: _prompt(verbalizer.tokenizer, prompt)),
        ("marker", lambda: _marker(verbalizer.tokenizer, prompt)),
        ("injection", lambda: _injection(model, injection, (prompt.ids, prompt.places))),
        ("the vector matters", lambda: _matters(model, injection, (prompt.ids, prompt.places))),
        ("extraction", lambda: _extraction(verbalizer)),
        ("layer", lambda: _layer(nla)),
        ("pooling", lambda: _pooling(nla)),
        ("the words matter", lambda: _words(nla)),
        ("training mean", lambda: _mean(nla)),
    )


def check_oracle(oracle: ActivationOracle) -> list[ConformanceRow]:
    """Check a loaded oracle: slots, injection, whether vector and adapter matter.

    Args:
        oracle: as from :meth:`tl_nla.ActivationOracle.from_pretrained`; left as it is.
    """
    protocol = oracle.protocol
    layers = protocol.layers[0] if protocol.layers else (0,)
    own = None if protocol.question is not None else "What is it?"
    question = own if own is None or "{vectors}" in protocol.template else "What is {vectors}?"
    prompt = oracle.prompt_for(question, layers, 1 if protocol.same_block else 2)
    sites = prompt.ids, prompt.places
    return _run(
        (
            "slots",
            lambda: (True, f"{len(prompt.places)} slots {protocol.slot!r} at {prompt.places} of {len(prompt.ids)}"),
        ),
        ("injection", lambda: _injection(oracle.model, oracle.injection, sites)),
        ("the vector matters", lambda: _matters(oracle.model, oracle.injection, sites)),
        ("the adapter matters", lambda: _adapter(oracle, sites)),
        ("layers", lambda: (True, f"reads {protocol.layers or 'any layer'}; K is the output of block K")),
    )


def _run(*checks: tuple[str, Callable[[], tuple[bool, str]]]) -> list[ConformanceRow]:
    rows = []
    for what, check in checks:
        try:
            rows.append(ConformanceRow(what, *check()))
        except InputError as error:
            rows.append(ConformanceRow(what, False, str(error)))
    return rows


def _vectors(d_model: int, slots: int = 1, rows: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 10 * torch.randn(rows, slots, d_model, generator=generator)


def _prompt(tokenizer: Any, prompt: Any) -> tuple[bool, str]:
    """The prompt again in two steps: rendered as text, then tokenised without special tokens."""
    slots = len(prompt.places)
    text = prompt.template.replace("{injection_char}", prompt.char * slots)
    ids = render_prompt(tokenizer, text, prompt.style)
    if prompt.style.chat and getattr(tokenizer, "chat_template", None):
        thinking = {} if prompt.style.thinking is None else {"enable_thinking": prompt.style.thinking}
        chat = [{"role": "user", "content": text}]
        rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **thinking)
        ids = tokenizer.encode(rendered + prompt.style.prefill, add_special_tokens=False)
    ends = f"thinking {prompt.style.thinking}, ends in {tokenizer.decode(prompt.ids[-4:])!r}"
    return list(ids) == list(prompt.ids), f"{len(prompt.ids)} tokens, {ends}"


def _marker(tokenizer: Any, prompt: Any) -> tuple[bool, str]:
    here = [place for place, token in enumerate(prompt.ids) if token == prompt.token_id]
    alone = tokenizer.encode(prompt.char, add_special_tokens=False)
    told = f"{prompt.char!r} is token {prompt.token_id} at {prompt.places}, neighbours {prompt.neighbours}"
    return here == prompt.places and prompt.token_id in alone, told


@torch.no_grad()
def _injection(model: Any, injection: Injection, sites: tuple[list[int], list[int]]) -> tuple[bool, str]:
    """What stands at the slots and beside them, against the rule applied by hand."""
    ids, places = sites
    config, raw = injection.config, _vectors(injection.d_model)[:1]
    vectors = injection(raw[:, 0]).expand(-1, len(places), -1) if config.slots == 1 else injection(raw[:, 0])
    with evaluating(model):
        plain = model.get_input_embeddings()(torch.tensor([ids], device=_device(model)))
        put = slot_embeddings(model, injection, ids, places, vectors)
        if injection.replaces_embedding:
            wanted, found, beside, where = vectors, put[:, places], (put, plain), "the embedding"
        else:
            before, after = _outputs(model, injection, put, places, vectors)
            there = before[:, places]
            size = config.strength * there.norm(dim=-1, keepdim=True)
            unit = raw / raw.norm(dim=-1, keepdim=True)
            rule = {"additive": there + size * unit.to(there), "norm_matched": size * unit.to(there)}
            wanted = rule.get(config.kind, raw.to(there).expand_as(there))
            found, beside, where = after[:, places], (after, before), f"the output of block {config.block}"
    others = [place for place in range(len(ids)) if place not in places]
    left = torch.equal(beside[0][:, others], beside[1][:, others])
    close = _close(found, wanted.to(found), model)
    size = float(found.float().norm(dim=-1).mean())
    scale = "" if config.scale is None else f", scale {config.scale:g}"
    return left and close, f"{config.kind} at {where}{scale}: norm {size:.4g} there; all other places as they were"


def _outputs(model: Any, injection: Injection, embeddings: Tensor, places: list[int], vectors: Tensor) -> list[Tensor]:
    """Output of the injection's block without and with the vectors."""
    found: list[Tensor] = []

    def keep(_module: Any, _args: Any, output: Any) -> None:
        found.append((output[0] if isinstance(output, tuple) else output).detach().clone())

    block = decoder_layers(model)[injection.config.block]
    handle = block.register_forward_hook(keep)
    try:
        model(inputs_embeds=embeddings, use_cache=False)
    finally:
        handle.remove()
    with changing(model, injection, vectors, places):
        handle = block.register_forward_hook(keep)  # behind the one that changes
        try:
            model(inputs_embeds=embeddings, use_cache=False)
        finally:
            handle.remove()
    return found


@torch.no_grad()
def _logits(model: Any, injection: Injection, sites: tuple[list[int], list[int]], acts: Tensor) -> Tensor:
    ids, places = sites
    vectors = injection(acts)
    vectors = vectors if vectors.shape[1] == len(places) else vectors.expand(-1, len(places), -1)
    with evaluating(model), changing(model, injection, vectors, places):
        embeddings = slot_embeddings(model, injection, ids, places, vectors)
        return model(inputs_embeds=embeddings, use_cache=False).logits[:, -1].float()


def _matters(model: Any, injection: Injection, sites: tuple[list[int], list[int]]) -> tuple[bool, str]:
    logits = _logits(model, injection, sites, _vectors(injection.d_model)[:, 0].to(_device(model)))
    moved = float((logits[0] - logits[1]).abs().max())
    return moved > 0, f"the first token's logits differ by up to {moved:.3g} between two random vectors"


def _adapter(oracle: ActivationOracle, sites: tuple[list[int], list[int]]) -> tuple[bool, str]:
    from tl_nla.model.families import is_adapted

    if not is_adapted(oracle.model):
        return True, "no adapter: whole weights, or a baseline"
    acts = _vectors(oracle.d_model)[:, 0].to(oracle.device)
    taught = _logits(oracle.model, oracle.injection, sites, acts)
    with oracle.untrained():
        moved = float((taught - _logits(oracle.model, oracle.injection, sites, acts)).abs().max())
    return moved > 0, f"logits differ by up to {moved:.3g} from the base's"


def _extraction(verbalizer: Any) -> tuple[bool, str]:
    text = "One.\nTwo."
    found = verbalizer.answers.extract(verbalizer.wrap(text))
    return found == text, f"form {verbalizer.answers.form!r}, up to {verbalizer.answers.cap} tokens"


def _layer(nla: NLA) -> tuple[bool, str]:
    blocks = len(decoder_layers(nla.reconstructor.backbone))
    deeper = f", {blocks - nla.layer - 1} more than K + 1" if blocks > nla.layer + 1 else ""
    told = f"K = {nla.layer}: {nla.site}, Hugging Face hidden_states[{nla.layer + 1}]; {blocks} blocks{deeper}"
    return blocks >= nla.layer + 1, told


@torch.no_grad()
def _pooling(nla: NLA) -> tuple[bool, str]:
    """Vectors of a batch of different lengths against each text alone, read at its last token."""
    reader = nla.reconstructor
    together, errors = nla.reconstruct(list(_TEXTS)), []
    with evaluating(reader):
        for text, vector in zip(_TEXTS, together, strict=True):
            ids = reader.tokenizer.encode(reader.template.replace("{explanation}", text), add_special_tokens=False)
            ids = reader.encode([text])[0] if reader.special else torch.tensor([ids])
            state = reader.backbone(input_ids=ids.to(reader.device), use_cache=False).last_hidden_state[0, -1].float()
            if reader.rescale is not None:
                state = state * reader.rescale / state.norm()
            alone = reader.head.weight.float() @ state
            errors.append(float((alone.cpu() - vector).norm() / vector.norm()))
    rescaled = "as it is" if reader.rescale is None else f"at norm {reader.rescale:.4g}"
    tokens = "with" if reader.special else "without"
    told = f"last token, {tokens} special tokens, state {rescaled}; batch against alone differ by {max(errors):.1e}"
    return max(errors) < _limit(reader.backbone), told


def _words(nla: NLA) -> tuple[bool, str]:
    vectors = nla.reconstruct(list(_TEXTS))
    share = float(cosine(vectors[:1], vectors[2:]))
    finite = bool(torch.isfinite(nla.reconstructor.head.weight).all())
    return finite and share < 1 - 1e-6, f"two texts' vectors have cosine {share:.4f}; head finite: {finite}"


def _mean(nla: NLA) -> tuple[bool, str]:
    if nla.mean is None:
        return True, "none stored: FVE needs the mean of training states from elsewhere"
    fits = tuple(nla.mean.shape) == (nla.d_model,) and bool(torch.isfinite(nla.mean).all())
    return fits, f"norm {float(nla.mean.norm()):.4g} of sqrt(d) = {nla.d_model**0.5:.4g}"


def _close(found: Tensor, wanted: Tensor, model: Any) -> bool:
    return bool((found.float() - wanted.float()).norm() <= _limit(model) * wanted.float().norm())


def _limit(model: Any) -> float:
    weight = next(text_backbone(model).parameters())
    return _TOLERANCE if weight.dtype in (torch.float32, torch.float64) else 20 * _TOLERANCE


def _device(model: Any) -> torch.device:
    return model.get_input_embeddings().weight.device
