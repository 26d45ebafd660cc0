"""Head cards as sentences and Markdown."""

from tl_nla.markdown import escape, show
from tl_nla.reports.heads.card import Card, HeadCards

COLUMNS = ("head", "kind", "where it looks", "reads", "always writes", "often beside that", "words' FVE", "skip KL",
           "direct")  # fmt: skip


def number(value: float | None, form: str = "{:.2f}") -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else form.format(value)


def looks(card: Card) -> str:
    """Where a head looks: the shares above a tenth, the largest first."""
    where = card.attention
    named = [("first token", where.sink), ("itself", where.itself), ("1 back", where.previous),
             ("2–15 back", where.near), ("further back", where.far)]  # fmt: skip
    shown = sorted(((share, name) for name, share in named if share >= 0.1), reverse=True)
    steady = max(range(2, len(where.offsets)), key=lambda back: where.offsets[back])
    tail = [f"{steady} back {where.offsets[steady]:.0%}"] if where.offsets[steady] >= 0.3 else []
    return ", ".join([*(f"{name} {share:.0%}" for share, name in shown), *tail]) or "spread out"


def kinds(card: Card) -> str:
    """Its kinds with the score of each."""
    return ", ".join(f"{kind} {number(card.scores[kind])}" for kind in card.kinds) or card.kind


def signed(up: tuple[str, ...], down: tuple[str, ...]) -> str:
    """Promoted words, then suppressed ones behind a minus."""
    return " ".join([*up, *(f"−{word}" for word in down)])


def cells(card: Card) -> tuple[str, ...]:
    """One row of the table, by ``COLUMNS``, unescaped."""
    words, matters = card.words, card.matters
    return (
        card.name, kinds(card), looks(card), " ".join(show(text, 16) for text, _ in card.reads), signed(*words.always),
        " ".join(word for word, _ in words.often), number(words.fve), number(matters.skip_kl, "{:.4f}"),
        number(matters.direct_size, "{:.3f}"),
    )  # fmt: skip


def sentences(card: Card) -> list[str]:
    """What a card says, unescaped."""
    words, matters = card.words, card.matters
    read = ", ".join(f"{show(text)} {share:.0%}" for text, share in card.reads)
    often = ", ".join(f"{word} {share:.0%}" for word, share in words.often)
    shown = [f"Looks at: {looks(card)}.", f"Reads: {read or 'no token in particular'}.",
             f"Always writes ({words.usual:.0%} of its writes): {signed(*words.always)}.",
             f"Often beside that: {often}."]  # fmt: skip
    if words.fve is not None:
        shown.append(
            f"Its words give back {words.fve:.2f} of what its writes have beside their mean (FVE, {words.heldout} "
            f"held-out writes; words of other writes {number(words.fve_shuffled)})."
        )
    if words.ov is not None:
        shown.append(f"Copying by its weights (OV eigenvalues, from −1 to 1): {words.ov:.2f}.")
    if words.fve_oracle is not None:
        shown.append(f"The oracle's words: {words.fve_oracle:.2f} ({words.oracle_rows} writes).")
    if words.meaning is not None:
        value, low, high = words.meaning
        verdict = "mean something to" if words.verdict == "meaning" else "are only a code for"
        shown.append(
            f"The oracle's words {verdict} a reader who knows English: its rank correlation with what a write changes "
            f"is {value:.2f} [{low:.2f}, {high:.2f}] above that of permuted words."
        )
    if matters.skip_kl is not None:
        shown.append(
            f"Left out at one position: KL {matters.skip_kl:.4f} on average of {matters.positions}, the next token's "
            f"log-probability {number(matters.change, '{:+.4f}')}."
        )
    if matters.where is not None:
        shown.append(f"Most at “…{matters.where[0]}” → “{matters.where[1]}”: KL {number(matters.largest, '{:.3f}')}.")
    return shown


def to_markdown(cards: HeadCards, by: str = "layer") -> str:
    """The table of all heads.

    Args:
        cards: the cards.
        by: see :meth:`tl_nla.reports.heads.HeadCards.sorted`.
    """
    rows = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    rows += [f"| {' | '.join(escape(text, 120) for text in cells(card))} |" for card in cards.sorted(by)]
    return "\n".join([*rows, "", *(f"- {escape(note)}" for note in cards.notes)])


def card_markdown(card: Card) -> str:
    """One card with its examples."""
    lines = [f"### {card.name}: {escape(kinds(card))}", "", *(f"- {escape(text)}" for text in sentences(card))]
    for one in card.examples:
        read = ", ".join(f"{show(text)} ({back} back, {share:.0%})" for text, back, share in one.sources)
        lines.append(f"- …{escape(one.before[-80:])}**{escape(show(one.token))}** read {escape(read or 'little')}; "
                     f"wrote {escape(signed(one.up, one.down))}")  # fmt: skip
    return "\n".join(lines)
