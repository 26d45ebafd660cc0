"""Prompts of activation oracles: one block of slots a layer, and a question."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tl_nla.errors import InputError
from tl_nla.nla.answers import AnswerRule
from tl_nla.nla.injection import InjectionConfig
from tl_nla.nla.prompts import PromptStyle, render_prompt

VECTORS, QUESTION, LAYER, SLOTS = "{vectors}", "{question}", "{layer}", "{slots}"
_WHOLE = AnswerRule("all")
_NO_THINKING = PromptStyle(thinking=False)


@dataclass(frozen=True)
class OracleProtocol:
    """How an activation oracle is asked.

    Attributes:
        family: of the oracle.
        injection: how vectors enter; one slot a vector.
        slot: text of one slot, a single token.
        block: text of one layer's slots, with ``{slots}`` and, where the prompt tells it, ``{layer}``.
        template: the user message, with ``{vectors}`` for the blocks and ``{question}``. Where only the question holds
            ``{vectors}``, the user says where they stand.
        layers: combinations of layers that it was trained on; any layer when empty.
        question: asked when the user asks nothing; ``None`` where there is no such question.
        style: how the message is rendered.
        answers: what of the response is the answer.
        cap: tokens of an answer unless more are asked for.
        same_block: the injection changes the output of the block that the vector was read from (Patchscopes).
    """

    family: str
    injection: InjectionConfig
    slot: str = " ?"
    block: str = f"Layer: {LAYER}\n{SLOTS} \n"
    template: str = f"{VECTORS}{QUESTION}"
    layers: tuple[tuple[int, ...], ...] = ()
    question: str | None = None
    style: PromptStyle = _NO_THINKING
    answers: AnswerRule = _WHOLE
    cap: int = 20
    same_block: bool = False


@dataclass(frozen=True)
class OraclePrompt:
    """A rendered prompt.

    Attributes:
        ids: token ids.
        places: positions of the slots, layer by layer.
        layers: that the vectors are of.
    """

    ids: list[int]
    places: list[int]
    layers: tuple[int, ...]


def oracle_prompt(
    tokenizer: Any, protocol: OracleProtocol, question: str | None, layers: Sequence[int], count: int
) -> OraclePrompt:
    """Render a question about ``count`` vectors of each layer.

    Args:
        tokenizer: the oracle's.
        protocol: how it is asked.
        question: what is asked; the protocol's own question when ``None``.
        layers: of the vectors, in the order in which they are told.
        count: vectors a layer.

    Raises:
        InputError: when a slot is not one token, the slots do not stand in rows of ``count``, or the question does not
            say where the vectors stand although it has to.
    """
    message = oracle_message(protocol, question, layers, count)
    alone = tokenizer.encode(protocol.slot, add_special_tokens=False)
    if len(alone) != 1:
        raise InputError(
            f"a slot {protocol.slot!r} of this oracle is {len(alone)} tokens of the tokenizer; it must be one: another "
            "tokenizer than the oracle's"
        )
    ids = render_prompt(tokenizer, message, protocol.style)
    runs = _runs(ids, int(alone[0]))[: len(layers)]  # a question behind the vectors may hold further ones
    if [len(run) for run in runs] != [count] * len(layers):
        raise InputError(
            f"the slots {protocol.slot!r} do not stand in {len(layers)} rows of {count} in the prompt; the tokenizer "
            "merges them with what stands beside them"
        )
    return OraclePrompt(ids, [place for run in runs for place in run], tuple(layers))


def oracle_message(protocol: OracleProtocol, question: str | None, layers: Sequence[int], count: int) -> str:
    """The user message; see :func:`oracle_prompt`."""
    asked = protocol.question if question is None else question
    if asked is None:
        raise InputError("this oracle has no question of its own; give one, such as 'Which language is this?'")
    if question is not None and QUESTION not in protocol.template:
        raise InputError(f"an oracle of the family {protocol.family} has one question of its own; leave yours out")
    where = protocol.template.replace(QUESTION, "")
    if VECTORS not in where and asked.count(VECTORS) != 1:
        raise InputError(
            f"a question to an oracle of the family {protocol.family} says where the vectors stand: write {VECTORS} "
            "there, once"
        )
    if protocol.slot.strip() and protocol.slot in asked and not protocol.template.startswith(VECTORS):
        raise InputError(f"the question holds {protocol.slot!r}, the slot of a vector; remove it")
    blocks = "".join(
        protocol.block.replace(LAYER, str(layer)).replace(SLOTS, protocol.slot * count) for layer in layers
    )
    return protocol.template.replace(QUESTION, asked).replace(VECTORS, blocks)


def _runs(ids: list[int], token: int) -> list[list[int]]:
    """Places of a token, in runs."""
    runs: list[list[int]] = []
    for place, found in enumerate(ids):
        if found == token:
            if runs and runs[-1][-1] == place - 1:
                runs[-1].append(place)
            else:
                runs.append([place])
    return runs
