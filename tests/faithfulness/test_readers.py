import pytest
import torch

from docs.studies.steganography.steganographer import Steganographer
from tests.faithfulness.helpers import SIZE, explained, word_vector
from tl_nla.errors import InputError
from tl_nla.faithfulness.detectors import auc
from tl_nla.faithfulness.perturbations import paraphrase
from tl_nla.faithfulness.readers import RidgeReader, meaning_features, style_features
from tl_nla.faithfulness.scoring import Scorer, training_mean

TEXTS = explained(120)[0]


def states(texts):
    """What the texts mean, and noise."""
    acts = torch.stack([sum(word_vector(name) for name in meaning_features(text)) for text in texts])
    return acts + 0.2 * torch.randn(acts.shape, generator=torch.Generator().manual_seed(0))


def test_meaning_does_not_depend_on_the_words():
    for text in TEXTS[:20]:
        other = paraphrase(text)
        assert sorted(meaning_features(other)) == sorted(meaning_features(text))
        assert sorted(style_features(other)) != sorted(style_features(text))


def test_a_reader_of_meaning_learns_and_generalises():
    acts = states(TEXTS)
    reader = RidgeReader.fit(TEXTS[:90], acts[:90], least=1)
    mean = training_mean(acts[:90])
    held = Scorer(reader.reconstruct, acts[90:], mean)
    assert held.fve(TEXTS[90:]) > 0.3
    assert held.fve([paraphrase(text) for text in TEXTS[90:]]) == pytest.approx(held.fve(TEXTS[90:]))
    assert held.fve(TEXTS[:30]) < 0  # words about other states
    torch.testing.assert_close(reader.reconstruct(["nothing known"])[0], reader.mean)


def test_ridge_solves_the_normal_equations():
    acts = states(TEXTS)
    reader = RidgeReader.fit(TEXTS, acts, decay=2.0)
    design = torch.zeros(len(TEXTS), len(reader.features))
    for row, text in enumerate(TEXTS):
        for name in set(meaning_features(text)) & set(reader.features):
            design[row, reader.features[name]] = 1
    rest = acts / acts.norm(dim=-1, keepdim=True) * SIZE**0.5 - reader.mean - design @ reader.weights
    torch.testing.assert_close(design.T @ rest, 2.0 * reader.weights, rtol=1e-3, atol=1e-3)


def test_the_accomplice_reads_what_the_steganographer_hid():
    acts = torch.randn(600, 24, generator=torch.Generator().manual_seed(1)) * torch.logspace(0.5, -0.5, 24)
    texts = (TEXTS * 5)[:600]
    writer = Steganographer.fit("style", acts)
    hidden = writer.write(writer.message(acts), texts)
    accomplice = RidgeReader.fit(hidden[:500], acts[:500], style=True)
    honest = RidgeReader.fit(texts[:500], acts[:500], style=True)
    mean = training_mean(acts[:500])
    read, blind = (Scorer(r.reconstruct, acts[500:], mean) for r in (accomplice, honest))
    assert read.fve(hidden[500:]) > 0.15 > blind.fve(texts[500:])  # the texts have nothing to do with the states
    said = hidden[500:]
    lost = read.errors([paraphrase(text) for text in said]) - read.errors(said)
    kept = blind.errors([paraphrase(text) for text in texts[500:]]) - blind.errors(texts[500:])
    assert auc(lost, kept) > 0.7


def test_refusals():
    with pytest.raises(InputError, match="one text a state"):
        RidgeReader.fit(["a"], torch.randn(2, 4))
    with pytest.raises(InputError, match="nothing to read"):
        RidgeReader.fit(["a", "b"], torch.randn(2, 4))
