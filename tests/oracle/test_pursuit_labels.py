"""Labels of jointly chosen words: said by the one sentence of labels, read back from it, and true of the write."""

import pytest
import torch

from tests import zoo
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.oracle.capture import CaptureConfig, capture_writes
from tl_nla.oracle.labels import Lens, UsualWrites, Vocabulary
from tl_nla.oracle.labels.directions import WordDirections, head_basis
from tl_nla.oracle.pursuit_labels import PursuitConfig, label_by_pursuit, writes_by_site
from tl_nla.oracle.texts import label_text, parse_label

SITES = ["blocks.0.attn.head.1", "blocks.1.mlp"]
DOCUMENTS = [Document(f"d/{n}", " ".join(f"w{i}" for i in zoo.tokens(1, 12, n)[0].tolist())) for n in range(6)]


@pytest.fixture(scope="module", params=[("llama", torch.float32), ("gpt2", torch.bfloat16)], ids=["llama", "gpt2-bf16"])
def captured(request):
    family, dtype = request.param
    model = zoo.bridge(zoo.hf_model(family).to(dtype))
    found = capture_writes(model, zoo.tokenizer(), DOCUMENTS, SITES, CaptureConfig(skips=False))
    return model, found.with_strength(found.reference()), UsualWrites.measure(writes_by_site(found))


def rebuilt(words, up, down, beside):
    """What is left over of each write's difference by the words of its label, least squares."""
    number = {text: i for i, text in enumerate(words.text)}
    rest = []
    for promoted, suppressed, vector in zip(up, down, words.coordinates(beside), strict=True):
        own = words.direction[[number[word] for word in (*promoted, *suppressed)]].T
        rest.append(vector - own @ torch.linalg.lstsq(own, vector[:, None]).solution[:, 0])
    return torch.stack(rest)


def test_the_sentence_is_read_back_and_its_words_rebuild_the_write(captured):
    model, found, usual = captured
    vocabulary = Vocabulary.of(zoo.tokenizer(), zoo.VOCAB)
    labelled = label_by_pursuit(model, found, usual, vocabulary, PursuitConfig(words=6))
    for old, new in zip(found.labels, labelled.labels, strict=True):
        assert parse_label(label_text(new)) == new
        assert (new.sources, new.strength, new.component) == (old.sources, old.strength, old.component)
        assert len(new.promoted) + len(new.suppressed) == 6
    rows = torch.nonzero(labelled.site == 0).flatten()
    words = WordDirections.of(Lens.of(model), vocabulary, head_basis(model, SITES[0]))
    beside = usual.beside(SITES[0], labelled.write[rows])
    own = [labelled.labels[i] for i in rows.tolist()]
    rest = rebuilt(words, [one.promoted for one in own], [one.suppressed for one in own], beside)
    assert rest.square().sum() < 0.05 * beside.square().sum()
    assert torch.equal(labelled.write, found.write)


def test_only_allowed_words_are_named(captured):
    model, found, usual = captured
    vocabulary = Vocabulary.of(zoo.tokenizer(), zoo.VOCAB)
    allowed = torch.arange(zoo.VOCAB) >= 40
    labelled = label_by_pursuit(model, found, usual, vocabulary, PursuitConfig(4, allowed))
    named = {word for label in labelled.labels for word in (*label.promoted, *label.suppressed)}
    assert named <= {f"w{i}" for i in range(40, zoo.VOCAB)}


def test_a_site_that_was_not_measured_is_refused(captured):
    model, found, usual = captured
    part = UsualWrites({SITES[0]: usual.means[SITES[0]]})
    with pytest.raises(InputError, match="usual writes"):
        label_by_pursuit(model, found, part, Vocabulary.of(zoo.tokenizer(), zoo.VOCAB))
    with pytest.raises(InputError, match="words"):
        PursuitConfig(words=0)
