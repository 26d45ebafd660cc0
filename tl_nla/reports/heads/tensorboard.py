"""Head cards in stock TensorBoard: the table and the cards of each layer as text, scores as histograms."""

from typing import Any

import torch

from tl_nla.errors import InputError
from tl_nla.reports.heads.card import HeadCards
from tl_nla.reports.heads.kinds import THRESHOLDS
from tl_nla.reports.heads.text import card_markdown, to_markdown


def log_head_cards(writer: Any, cards: HeadCards, step: int = 0) -> None:
    """Write cards to a run: texts ``heads/table``, ``heads/layer_00``, ...; scalars and histograms of the scores.

    Args:
        writer: a ``torch.utils.tensorboard.SummaryWriter``, such as ``TensorBoardLogger.experiment``.
        cards: the cards.
        step: training step, from 0.

    Raises:
        InputError: for what writes no summaries.
    """
    if not hasattr(writer, "add_text") or not hasattr(writer, "add_histogram"):
        raise InputError(f"{type(writer).__name__} is no TensorBoard writer; give a torch.utils.tensorboard one")
    writer.add_text("heads/table", to_markdown(cards), step)
    for layer in dict.fromkeys(card.layer for card in cards.cards):
        own = [card_markdown(card) for card in cards.cards if card.layer == layer]
        writer.add_text(f"heads/layer_{layer:02d}", "\n\n".join(own), step)
    for name in (*THRESHOLDS, "fve", "skip_kl"):
        values = [value for card in cards.cards if (value := card.value(name)) is not None]
        if values:
            writer.add_histogram(f"heads/{name.replace(' ', '_')}", torch.tensor(values), step)
    for kind in THRESHOLDS:
        writer.add_scalar(f"heads/count/{kind.replace(' ', '_')}", len(cards.of_kind(kind)), step)
