"""Cards as a page, Markdown, JSON and TensorBoard: nothing that a model or a text says breaks any of them."""

import html.parser
from dataclasses import replace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from tests.reports.tensorboard import webdriver
from tests.reports.test_report_text import NASTY, make_report
from tl_nla.errors import InputError
from tl_nla.reports.heads import Card, HeadCards, log_head_cards
from tl_nla.reports.heads.card import Example, Matters, Words
from tl_nla.reports.heads.html import page
from tl_nla.reports.heads.sums import Attention
from tl_nla.reports.heads.text import card_markdown, to_markdown
from tl_nla.reports.packed import pack, unpack


def make_card(layer=0, head=0, text="word", kinds=("sink",), fve=0.5, skip_kl: float | None = 0.1):
    """A card without a model; its text goes everywhere where text of others goes."""
    attention = Attention(0.7, 0.1, 0.1, 0.1, 0.0, 0.1, 0.1, 0.0, 0.0, (0.1, 0.1, *[0.0] * 15))
    scores = {"sink": 0.7, "copying": None, "induction": 0.1 * layer, "duplicate token": 0.0, "previous token": 0.1,
              "delimiter": 0.1, "positional": 0.0}  # fmt: skip
    words = Words(((text,), (text,)), 0.5, ((text, 0.5),), fve, 0.0, 40)
    matters = Matters(skip_kl, 0.5, (text, text), -0.1, 0.1, 0.2, 4)
    return Card(layer, head, kinds, scores, attention, ((text, 0.5),), words, matters,
                (Example(text, text, ((text, 3, 0.5),), (text,), (text,)),))  # fmt: skip


def make_cards(*cards):
    facts = {"documents": 2, "tokens": 80, "heldout_documents": 1}
    return HeadCards("m<b>", cards or (make_card(),), facts, ("a <i>note</i>",), 1.0, {"torch": "2"})


class Reader(html.parser.HTMLParser):
    """Tags, attributes and open elements of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize(("meaning", "verdict", "said"), [
    (None, None, ""), ((0.2, 0.1, 0.3), "meaning", "mean something to a reader"),
    ((0.1, -0.1, 0.3), "code", "are only a code for a reader"),
])  # fmt: skip
def test_a_card_says_whether_words_mean_something(meaning, verdict, said, tmp_path):
    card = make_card()
    card = replace(card, words=replace(card.words, meaning=meaning))
    assert card.words.verdict == verdict
    assert said in card_markdown(card)
    assert ("a reader" in card_markdown(card)) == (meaning is not None)
    make_cards(card).to_json(tmp_path / "cards.json")
    assert HeadCards.from_json(tmp_path / "cards.json").cards[0] == card


def test_a_report_carries_the_cards_of_its_heads():
    report = make_report().with_cards(make_cards(make_card(layer=1, head=1, text="red")))
    assert list(report.cards) == ["blocks.1.attn.head.1"]
    assert "Looks at: first token 70%" in report.cards["blocks.1.attn.head.1"]
    assert report.cards == unpack(pack(report.to_dict()))["cards"]


@pytest.mark.parametrize("text", NASTY)
def test_no_text_breaks_what_notebooks_show(text):
    shown = make_cards(make_card(text=text))._repr_html_()
    assert set(Reader(shown).tags) == {"div", "p", "table", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("text", NASTY)
def test_no_text_breaks_the_page(text):
    plain, nasty = Reader(page(make_cards())), Reader(page(make_cards(make_card(text=text))))
    assert nasty.tags == plain.tags
    assert not nasty.open
    assert nasty.tags.count("script") == 1
    page(make_cards(make_card(text=text))).encode("utf-8")


def test_the_page_needs_nothing_from_elsewhere():
    found = Reader(page(make_cards()))
    assert not {"link", "img", "iframe", "object"} & set(found.tags)
    assert not {"src", "href", "action", "onclick"} & {name for name, _ in found.attributes}
    assert any("default-src 'none'" in str(value) for _, value in found.attributes)


@pytest.mark.skipif(webdriver.missing_browser() is not None, reason=str(webdriver.missing_browser()))
def test_a_click_sorts_and_a_word_filters(tmp_path):
    cards = make_cards(make_card(0, 0, fve=0.2), make_card(1, 0, fve=0.9, kinds=("induction",)),
                       make_card(2, 0, fve=None))  # fmt: skip
    cards.to_html(tmp_path / "cards.html")
    with webdriver.browser() as browser:
        browser.open((tmp_path / "cards.html").as_uri())
        names = (
            "return [...document.querySelectorAll('tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent)"
        )
        press = "[...document.querySelectorAll('th button')].find(b => b.textContent === 'fve').click();"
        assert browser.run(names) == ["L0.H0", "L1.H0", "L2.H0"]
        assert browser.run(press + names) == ["L1.H0", "L0.H0", "L2.H0"]
        assert browser.run(press + names) == ["L2.H0", "L0.H0", "L1.H0"]
        type_ = "const i = document.querySelector('input'); i.value = 'induction'; i.dispatchEvent(new Event('input'));"
        assert browser.run(type_ + names) == ["L1.H0"]


def test_cards_sort_by_any_number():
    cards = make_cards(
        make_card(0, 0, fve=0.2, skip_kl=None), make_card(1, 0, fve=None, kinds=()), make_card(2, 1, fve=0.9)
    )
    assert [card.name for card in cards.sorted("fve")] == ["L2.H1", "L0.H0", "L1.H0"]
    assert [card.name for card in cards.sorted("induction")] == ["L2.H1", "L1.H0", "L0.H0"]
    assert [card.name for card in cards.sorted("kind")] == ["L0.H0", "L2.H1", "L1.H0"]
    assert cards.sorted("skip_kl")[-1].name == "L0.H0"
    with pytest.raises(InputError, match="skip_kl"):
        cards.sorted("skips")


@pytest.mark.parametrize("text", NASTY)
def test_no_text_breaks_the_tables(text):
    card = make_card(text=text)
    rows = to_markdown(make_cards(card)).split("\n")
    assert rows[2].count("|") - rows[2].count("\\|") == rows[0].count("|")
    assert "<script" not in card_markdown(card)
    assert len(card_markdown(card).split("\n")) == len(card_markdown(make_card()).split("\n"))


def test_cards_land_in_tensorboard_and_come_back_from_json(tmp_path):
    cards = make_cards(make_card(), make_card(1, 1, kinds=()))
    with SummaryWriter(tmp_path / "run") as writer:
        log_head_cards(writer, cards)
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"tensors": 0})
    events.Reload()
    texts = {f"heads/{name}/text_summary" for name in ("table", "layer_00", "layer_01")}
    assert texts <= set(events.Tags()["tensors"])
    assert events.Scalars("heads/count/sink")[0].value == 1
    assert "heads/fve" in events.Tags()["histograms"]
    cards.to_json(tmp_path / "cards.json")
    assert HeadCards.from_json(tmp_path / "cards.json") == cards
    (tmp_path / "cards.json").write_text("{}")
    with pytest.raises(InputError, match="holds no head cards"):
        HeadCards.from_json(tmp_path / "cards.json")
    with pytest.raises(InputError, match="is no TensorBoard writer"):
        log_head_cards(print, cards)
