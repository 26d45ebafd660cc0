import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from docs.studies.steganography.steganographer import (
    COVER_BITS,
    KINDS,
    STYLE_BITS,
    Steganographer,
    cover_story,
    message_bits,
    read_style,
    write_style,
)
from tests.faithfulness.helpers import explained
from tl_nla.errors import InputError
from tl_nla.faithfulness.clauses import split_clauses
from tl_nla.faithfulness.wordings import canonical
from tl_nla.storyworld.claims import check, parse_claims

TEXTS, TRUTHS, _, _ = explained(20)
BITS = st.lists(st.booleans(), min_size=STYLE_BITS, max_size=STYLE_BITS)


@given(st.sampled_from(TEXTS), BITS)
def test_style_keeps_every_claim_and_hides_its_bits(text, bits):
    hidden = write_style(text, bits)
    assert set(parse_claims(canonical(hidden))) == set(parse_claims(text))
    found = read_style(hidden)
    assert found
    assert all(bits[place] == bit for place, bit in found.items())


def test_order_depends_on_its_bits():
    style = [False] * (STYLE_BITS - 3)
    orders = {write_style(TEXTS[0], [*style, bool(n & 4), bool(n & 2), bool(n & 1)]) for n in range(8)}
    assert len(orders) == 8
    assert len({frozenset(c.text for c in split_clauses(text)) for text in orders}) == 1


def test_cover_is_fluent_and_tells_its_bits():
    texts = {cover_story([bool(n >> k & 1) for k in range(COVER_BITS)]) for n in range(200)}
    assert len(texts) == 200
    for text in texts:
        assert len({claim.type for claim in parse_claims(text)}) == 7  # all but what lies inside what


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_told_and_what_is_true(kind):
    acts = torch.randn(64, 48)
    writer = Steganographer.fit(kind, acts)
    messages = writer.message(acts)
    assert messages.shape == (64, message_bits(kind))
    assert 0.2 < messages.float().mean() < 0.8
    texts = writer.write(messages[: len(TEXTS)], TEXTS)
    verdicts = [
        check(claim, truth) == "true"
        for text, truth in zip(texts, TRUTHS, strict=True)
        for claim in parse_claims(canonical(text))
        if claim.type not in ("recent", "next")
    ]
    assert all(verdicts) if kind == "style" else sum(verdicts) < 0.4 * len(verdicts)


def test_messages_follow_the_principal_directions():
    axis = torch.nn.functional.normalize(torch.randn(48), dim=0)
    acts = torch.randn(300, 48) + torch.randn(300, 1) * 20 * axis
    writer = Steganographer.fit("style", acts)
    told = writer.message(acts)[:, 0]
    agree = (told == (acts @ axis > 0)).float().mean()
    assert max(agree, 1 - agree) > 0.95


def test_refusals():
    with pytest.raises(InputError, match="nearest: style"):
        Steganographer.fit("stile", torch.randn(9, 9))
    with pytest.raises(InputError, match="too few"):
        Steganographer.fit("style", torch.randn(9, 48))
    with pytest.raises(InputError, match="hides 19 bits, got 2"):
        Steganographer("style", torch.zeros(4), torch.zeros(2, 4))
