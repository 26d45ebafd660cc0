import pytest
import torch

from docs.studies.contributions.recoveries import partial_states, recovery
from tests import zoo
from tl_nla.benchmark.words_only import all_writes, capture_residuals, context_texts, divergence, output_logits, rebuild
from tl_nla.data import Document
from tl_nla.oracle import CaptureConfig

TEXTS = [" ".join(f"w{i}" for i in zoo.tokens(1, 9 - n % 3, seed=n)[0].tolist()) for n in range(5)]
DOCUMENTS = [Document(f"d/{n}", text) for n, text in enumerate(TEXTS)]


@pytest.fixture(params=["llama", "gpt2", "gemma2"])
def captured(request, get_model):
    model = get_model("bridge", request.param)
    config = CaptureConfig(2, skips=False, batch_size=2)
    return model, capture_residuals(model, zoo.tokenizer(), DOCUMENTS, config)[0]


def test_the_parts_sum_to_the_last_state_of_the_model(captured):
    model, found = captured
    assert len(found) == 10
    for row in range(len(found)):
        ids = zoo.tokenizer().encode(DOCUMENTS[int(found.document[row])].text, add_special_tokens=False)
        tokens = torch.tensor([[zoo.tokenizer().bos_token_id, *ids]])
        with torch.no_grad():
            logits = model(tokens)[0, int(found.position[row])]
        torch.testing.assert_close(output_logits(model, found.final[row : row + 1])[0], logits, atol=1e-4, rtol=1e-4)


def test_exact_writes_recover_everything_and_means_nothing(captured):
    model, found = captured
    kl, same = recovery(model, found, found.writes, found.mean)
    assert kl.shape == (zoo.N_LAYERS + 1, len(found))
    assert float(kl[-1].max()) < 1e-5
    assert bool(same[-1].all())
    assert float(kl[0].max()) > 1e-3
    means, _ = recovery(model, found, found.mean.expand_as(found.writes), found.mean)
    torch.testing.assert_close(means, kl[:1].expand_as(means))


def test_layers_are_told_one_after_the_other(captured):
    _, found = captured
    states = partial_states(found, found.writes, torch.zeros_like(found.mean))
    first = found.layers == 0
    torch.testing.assert_close(states[0], found.embed + found.rest)
    torch.testing.assert_close(states[1], found.embed + found.rest + found.writes[:, first].sum(1))
    torch.testing.assert_close(states[-1], found.final)


def test_context_texts_name_the_writer_and_fit_the_budget(get_model):
    model, tokenizer = get_model("bridge", "llama"), zoo.tokenizer()
    found, _ = capture_residuals(model, tokenizer, DOCUMENTS, CaptureConfig(2, skips=False))
    texts = context_texts(tokenizer, DOCUMENTS, found, zoo.N_CTX)
    for row, document in enumerate(found.document.tolist()):
        words = DOCUMENTS[document].text.split()[: int(found.position[row])]
        for text, label, site in zip(texts[row], found.texts[row], found.sites, strict=True):
            said = [word for word in text.split() if word.startswith("w")]
            assert said == words[len(words) - len(said) :]
            assert len(tokenizer.encode(text)) <= len(tokenizer.encode(label)) + 1
            assert f"layer {site.split('.')[1]}" in text


def test_rebuild_reads_each_text_once_and_keeps_the_places():
    seen = []

    class Reader:
        def reconstruct(self, texts, batch_size):
            seen.extend(texts)
            return torch.tensor([[float(text)] for text in texts])

    vectors = rebuild(Reader(), [["1", "2"], ["2", "30"]])
    assert vectors[..., 0].tolist() == [[1.0, 2.0], [2.0, 30.0]]
    assert sorted(seen) == ["1", "2", "30"]


def test_divergence_is_that_of_the_distributions():
    clean, other = torch.randn(3, 7), torch.randn(3, 7)
    wanted = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=clean), torch.distributions.Categorical(logits=other)
    )
    torch.testing.assert_close(divergence(clean, other), wanted)
    assert float(divergence(clean, clean + 3.0).abs().max()) < 1e-6


def test_the_sites_are_all_heads_and_mlps(get_model):
    sites, span = all_writes(get_model("bridge", "llama"))
    assert len(sites) == zoo.N_LAYERS * (zoo.N_HEADS + 1)
    assert span == f"blocks.0.hook_resid_pre -> blocks.{zoo.N_LAYERS - 1}.hook_resid_post"
