"""The corpus is put together from what is there, cut into pieces of prose, and split by document."""

import gzip
import json
import struct
import sys
import zlib
from collections import Counter

import pytest
import torch

from docs.corpus import CorpusConfig, build, build_corpus, readers
from docs.corpus.__main__ import main
from docs.corpus.build import pieces
from docs.corpus.kinds import packages
from docs.corpus.sampled import sample_documents
from tests import zoo
from tl_nla.data.documents import load_documents
from tl_nla.errors import InputError

SENTENCE = "The harbor was quiet that morning and nobody had seen the boat leave. "
PAGE = "<html><head><title>no</title></head><body><ul class='docnav'><li>Next</li></ul><p>One <b>bold</b>\n word &amp; more.</p><pre>x = 1</pre><p>Two.</p></body></html>"  # noqa: E501


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """Packages with a page each, and no standard library, which takes seconds."""
    home = tmp_path / "packages"
    fortunes = home / "usr/share/games/fortunes"
    fortunes.mkdir(parents=True)
    (fortunes / "wise").write_text("\n%\n".join(f"Saying number {n}. {SENTENCE * 4}" for n in range(60)))
    (fortunes / "wise.dat").write_bytes(b"\0\1\2")
    (fortunes / "wise.u8").symlink_to("wise")
    essays = home / "usr/share/doc/anarchism/markdown"
    essays.mkdir(parents=True)
    for n in range(30):
        text = "# Heading\n\n" + "\n\n".join(f"Part {n} {m}. " + SENTENCE * 12 for m in range(5))
        (essays / f"{n:02}.md.gz").write_bytes(gzip.compress(text.encode()))
    monkeypatch.setattr(build, "KINDS", tuple(kind for kind in build.KINDS if kind.package))
    return home


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_no_document_is_on_both_sides_and_what_is_missing_is_named(unpacked, tmp_path):
    summary = build_corpus(unpacked, tmp_path / "corpus", CorpusConfig(longest=2000, heldout=0.3), ["Sampled " * 40])
    train, held = rows(tmp_path / "corpus/train.jsonl"), rows(tmp_path / "corpus/held_out.jsonl")
    sides = [{row["document"] for row in side} for side in (train, held)]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]
    assert not {row["text"] for row in train} & {row["text"] for row in held}
    assert summary["kinds"]["sayings"] == {
        "documents": 60,
        "pieces": 60,
        "characters": summary["kinds"]["sayings"]["characters"],
    }
    assert summary["kinds"]["essays"]["documents"] == 30
    assert summary["kinds"]["model"]["pieces"] == 1
    assert summary["missing"]["novels"] == "r-cran-janeaustenr"
    assert summary["characters"] == sum(len(row["text"]) for row in (*train, *held))
    assert sorted(path.name for path in (tmp_path / "corpus").iterdir()) == [
        "corpus.json",
        "held_out.jsonl",
        "train.jsonl",
    ]
    assert len(load_documents(str(tmp_path / "corpus/train.jsonl"), 5)) == 5
    again = build_corpus(unpacked, tmp_path / "twice", CorpusConfig(longest=2000, heldout=0.3), ["Sampled " * 40])
    assert again == summary
    assert rows(tmp_path / "twice/train.jsonl") == train


def test_a_build_that_is_cut_off_leaves_the_old_corpus(unpacked, tmp_path):
    build_corpus(unpacked, tmp_path / "corpus")
    before = (tmp_path / "corpus/train.jsonl").read_bytes()

    def broken():
        yield "Fine. " * 100
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus(unpacked, tmp_path / "corpus", sampled=broken())
    assert (tmp_path / "corpus/train.jsonl").read_bytes() == before
    assert len(list((tmp_path / "corpus").iterdir())) == 3


def test_pieces_are_whole_paragraphs_or_sentences_and_lose_nothing():
    config = CorpusConfig(longest=400, shortest=50)
    text = "\n\n".join(["Short one. " + SENTENCE.strip(), (SENTENCE * 20).strip(), SENTENCE.strip()])
    found = list(pieces(text, config))
    assert all(50 <= len(piece) <= 400 for piece in found)
    assert " ".join(" ".join(found).split()) == " ".join(text.split())
    assert all(piece.endswith(".") for piece in found)
    assert list(pieces("0 1 2 3 | 4 5 6 7 | = = = " * 20, config)) == []
    assert [len(piece) for piece in pieces("x" * 1000, config)] == [400, 400, 200]


def test_formats_become_plain_paragraphs(tmp_path):
    def made(name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    assert list(readers.html(made("a.html", PAGE))) == ["One bold word & more.\n\nTwo."]
    page = "<page><info><desc>no</desc></info><title>Read</title><p>Use <app>it</app>\n now.</p></page>"
    assert list(readers.html(made("a.page", page))) == ["Read\n\nUse it now."]
    pod = "=head1 NAME\n\nUse I<this> and C<< $x->y >> or\nB<I<both>>.\n\n    code\n\n=cut\n"
    assert list(readers.pod(made("a.pod", pod))) == ["Use this and $x->y or both."]
    marked = "# Head\n\nSee [the *page*](http://x) now.\n\n> quoted `text`\n\n====\n"
    assert list(readers.markdown(made("a.md", marked))) == ["See the page now.\n\nquoted text"]
    dictionary = "word\n\n   <kind> A {thing}\n   of sorts.\n\nempty\nother\n\n   Second.\n"
    assert list(readers.entries(made("a.dict", dictionary))) == [
        "word.\n\n<kind> A thing of sorts.",
        "other.\n\nSecond.",
    ]
    assert list(readers.last_columns(made("a.tab", "Tale\tOnce upon a  time.\n"))) == ["Once upon a time."]
    assert list(readers.docstrings(made("a.py", f'def f():\n    """{SENTENCE * 8}"""\n'))) == [(SENTENCE * 8).strip()]
    assert list(readers.docstrings(made("b.py", "def f(:\n"))) == []


def test_texts_of_r_are_found_and_cut_at_chapters(tmp_path):
    lines = [
        "EMMA",
        "",
        "CHAPTER I",
        "",
        "Emma Woodhouse, handsome,",
        "clever, and rich.",
        "",
        "CHAPTER II",
        "",
        "Then.",
    ]
    data = b"X\n\0\0\0\3" + struct.pack(">ii", 16, len(lines))
    for line in lines:
        data += struct.pack(">ii", 0x00040009, len(line)) + line.encode()
    packed = zlib.compress(data)
    (tmp_path / "R.rdb").write_bytes(struct.pack(">i", len(data)) + packed)
    assert list(readers.r_texts(tmp_path / "R.rdb")) == [
        "EMMA", "CHAPTER I\n\nEmma Woodhouse, handsome, clever, and rich.", "CHAPTER II\n\nThen.",
    ]  # fmt: skip


def test_sampled_documents_are_the_models_own_and_the_same_each_time():
    model, tokenizer = zoo.hf_model("llama").eval(), zoo.tokenizer()

    def draw(**settings):
        return list(sample_documents(model, tokenizer, 6, 12, openings=["w5 w6", "w7"], **settings))

    first = draw()
    assert first == draw()
    assert first != draw(seed=1)
    assert len(first) == 6
    assert sum(text.startswith("w5 w6") for text in first) == 3
    assert all(len(text.split()) <= 12 for text in first)
    # The last of three tokens is drawn from the model's own distribution.
    drawn = Counter(list(sample_documents(model, tokenizer, 2000, 3, openings=["w5 w6"])))
    ids = torch.tensor([tokenizer.encode("w5 w6")])
    with torch.no_grad():
        odds = model(ids).logits[0, -1].softmax(-1)
    for token in (8, 20, 40):
        assert abs(drawn[f"w5 w6 w{token}"] / 2000 - odds[token].item()) < 4 * (odds[token].item() / 2000) ** 0.5
    with pytest.raises(InputError, match="count"):
        next(sample_documents(model, tokenizer, 0))


def test_the_cache_of_keys_and_values_changes_nothing():
    model, tokenizer = zoo.hf_model("llama").eval(), zoo.tokenizer()
    (text,) = sample_documents(model, tokenizer, 1, 10, seed=4, openings=["w5"])
    generator, ids = torch.Generator().manual_seed(4 * 100_003), tokenizer.encode("w5")
    while len(ids) < 10:
        with torch.no_grad():
            odds = model(torch.tensor([ids])).logits[0, -1].softmax(-1)
        ids.append(int(torch.multinomial(odds, 1, generator=generator)))
        if ids[-1] == tokenizer.eos_token_id:
            break
    assert text == tokenizer.decode(ids, skip_special_tokens=True)


def test_the_command_builds_and_names_packages(unpacked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["corpus", "--list", "debian"])
    assert main() == 0
    assert capsys.readouterr().out.split() == packages("debian")
    monkeypatch.setattr(sys, "argv", ["corpus", "--packages", str(unpacked), "--out", str(tmp_path / "c")])
    assert main() == 0
    assert json.loads(capsys.readouterr().out)["kinds"]["essays"]["documents"] == 30
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["corpus", "--packages", str(unpacked), "--out", str(tmp_path / "file")])
    assert main() == 2
    for wrong in ({"longest": 10}, {"heldout": 1.0}, {"shortest": 0}):
        with pytest.raises(InputError):
            CorpusConfig(**wrong)
