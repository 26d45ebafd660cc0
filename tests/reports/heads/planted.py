"""A GPT-2 of three layers whose heads are set by hand, so that what each does is known.

The stream holds a token's code, a position's code (angles, so that a shift is a rotation) and the code of the token
before, which the first head writes. Random heads read them all and write into the rest.
"""

import functools
import math
import random

import torch

from tests import zoo

SIGNS = (".", ",", ";", "!")
WIDTH, HEAD, CODE = 192, 64, 32
TOKEN, PLACE, BEFORE, REST = (slice(first, last) for first, last in ((0, 32), (32, 64), (64, 96), (96, 192)))
KINDS = {
    (0, 0): "previous token", (0, 1): "duplicate token", (0, 2): "sink",
    (1, 0): "induction", (1, 1): "delimiter", (1, 2): "positional",
    (2, 0): "copying", (2, 1): None, (2, 2): None,
}  # fmt: skip
_SHARP = 12.0


def _codes(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes of tokens (the last number says whether it is a sign), of positions, and their angles."""
    token = torch.randn(zoo.VOCAB, CODE, generator=generator)
    token[:, -1] = 0.0
    token = token / token.norm(dim=1, keepdim=True)
    token[-len(SIGNS) :, -1] = 1.0
    angles = torch.rand(CODE // 2, generator=generator) * 2.8 + 0.2
    turns = torch.arange(zoo.N_CTX)[:, None] * angles
    place = torch.cat([turns.cos(), turns.sin()], 1) / math.sqrt(CODE / 2)
    return token, place, angles


def _shift(angles: torch.Tensor, back: int) -> torch.Tensor:
    """What turns the code of a position into that of the position so far before it."""
    cos, sin = (back * angles).cos().diag(), (back * angles).sin().diag()
    return torch.cat([torch.cat([cos, sin], 1), torch.cat([-sin, cos], 1)], 0).T


@functools.cache
def hf():
    """The model."""
    model = zoo.hf_model("gpt2", n_embd=WIDTH, n_head=WIDTH // HEAD, n_layer=3)
    generator = torch.Generator().manual_seed(0)
    token, place, angles = _codes(generator)
    inner = model.transformer
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
        inner.wte.weight[:, TOKEN], inner.wpe.weight[:, PLACE] = token, place
        for (layer, head), kind in KINDS.items():
            _plant(inner.h[layer].attn, head, kind, angles, place, generator)
        for block in inner.h:  # what writes nothing at all has no direction to be read
            block.mlp.c_proj.bias[REST] = 0.01 * torch.randn(WIDTH - 96, generator=generator)
    return model


def _plant(attention, head: int, kind: str | None, angles, place, generator) -> None:
    columns = slice(head * HEAD, (head + 1) * HEAD)
    query, key, value = (attention.c_attn.weight[:, part * WIDTH : (part + 1) * WIDTH][:, columns] for part in range(3))
    ask = attention.c_attn.bias[:WIDTH][columns]
    out = attention.c_proj.weight[columns]
    eye = torch.eye(CODE)
    low, high = slice(0, CODE), slice(CODE, HEAD)
    value[TOKEN, low] = eye
    out[low, REST] = 0.003 * torch.randn(CODE, WIDTH - 96, generator=generator)
    if kind in ("previous token", "positional"):
        query[PLACE, low], key[PLACE, low] = _SHARP * _shift(angles, 1 if kind == "previous token" else 4), eye
    elif kind == "duplicate token":
        query[TOKEN, low], key[TOKEN, low] = _SHARP * eye, eye
        query[PLACE, high], key[PLACE, high] = -_SHARP * eye, eye  # not the position itself
    elif kind == "sink":
        key[PLACE, low], ask[low] = eye, 4 * _SHARP * place[0]
    elif kind == "induction":
        query[TOKEN, low], key[BEFORE, low] = _SHARP * eye, eye
    elif kind == "delimiter":
        key[TOKEN, low], ask[CODE - 1] = eye, 2 * _SHARP
    else:
        query[TOKEN], key[TOKEN] = (torch.randn(2, CODE, HEAD, generator=generator) * 0.5).unbind()
    if kind == "previous token":
        out[low, BEFORE] = 0.1 * eye
    if kind == "copying":
        out[low, TOKEN] = eye


def model(kind: str):
    """The planted model as a ``bridge`` or a ``hooked`` transformer."""
    words = zoo.tokenizer(SIGNS)
    if kind == "hooked":
        return zoo.hooked_twin(hf(), words)
    import copy

    return zoo.bridge(copy.deepcopy(hf()), words=words)


def texts(count: int = 24, length: int = 40) -> list[str]:
    """Random words with a sign now and then; words come again by chance."""
    draw = random.Random(0)
    words = [f"w{number}" for number in range(4, zoo.VOCAB - len(SIGNS))]
    return [" ".join(draw.choice(SIGNS) if draw.random() < 0.15 else draw.choice(words) for _ in range(length))
            for _ in range(count)]  # fmt: skip
