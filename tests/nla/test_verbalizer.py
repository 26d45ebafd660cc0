import pytest
import torch

from tests import zoo
from tests.nla import checkpoints
from tests.nla.checkpoints import CHAR
from tl_nla.errors import InputError
from tl_nla.model.families import decoder_layers
from tl_nla.nla import NLA, InjectionConfig, Verbalizer
from tl_nla.nla.prompts import build_verbalizer_prompt

KINDS = [InjectionConfig("constant", 5.0), InjectionConfig("affine", 5.0), InjectionConfig("additive")]


def make(config, model=None, tokenizer=None):
    tokenizer = tokenizer or checkpoints.byte_tokenizer()
    model = model or checkpoints.source_model("qwen2")
    return NLA.create(model, tokenizer, 1, config, checkpoints.AV_TEMPLATE).verbalizer


@pytest.fixture(scope="module", params=KINDS, ids=lambda config: config.kind)
def verbalizer(request):
    return make(request.param)


@pytest.fixture
def acts():
    return torch.randn(3, zoo.D_MODEL)


def test_gradients_reach_weights_and_injection(verbalizer, acts):
    ids, mask = verbalizer.encode_responses(["one", "two two", "three"])
    verbalizer(acts, ids, mask)[mask].logsumexp(-1).sum().backward()
    assert all(parameter.requires_grad for parameter in verbalizer.parameters())
    assert verbalizer.model.get_input_embeddings().weight.grad.any()
    for parameter in verbalizer.injection.parameters():
        assert parameter.grad.any()
    verbalizer.zero_grad()


def test_gradient_reaches_the_vectors(verbalizer, acts):
    ids, mask = verbalizer.encode_responses(["one", "two two", "three"])
    acts.requires_grad_()
    verbalizer(acts, ids, mask).logsumexp(-1).sum().backward()
    assert acts.grad.isfinite().all()
    assert acts.grad.abs().sum(-1).min() > 0


def test_padding_and_company_change_nothing(verbalizer, acts):
    texts = ["a", "a much longer explanation", "b"]
    ids, mask = verbalizer.encode_responses(texts)
    with torch.no_grad():
        together = verbalizer(acts, ids, mask)
        for row, text in enumerate(texts):
            alone = verbalizer(acts[row : row + 1], *verbalizer.encode_responses([text]))[0]
            torch.testing.assert_close(together[row, : len(alone)], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_vectors_of_other_dtypes(verbalizer, acts, dtype):
    assert verbalizer.generate(acts.to(dtype), max_new_tokens=2).texts
    assert verbalizer.generate(acts.to(dtype), max_new_tokens=4).ids.dtype == torch.long


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
def test_bfloat16_model(config, acts):
    verbalizer = make(config, checkpoints.source_model("qwen2").bfloat16())
    found = verbalizer.generate(acts, max_new_tokens=3)
    assert found.logprobs.dtype == torch.float32
    assert verbalizer.prompt_embeddings(acts).dtype == torch.bfloat16


def test_responses_are_wrapped_and_end(verbalizer):
    ids, mask = verbalizer.encode_responses(["Hi.", "Longer"])
    tokenizer = verbalizer.tokenizer
    texts = [tokenizer.decode(row[real]) for row, real in zip(ids, mask, strict=True)]
    assert texts == [f"<explanation>\n{text}\n</explanation></turn>" for text in ("Hi.", "Longer")]
    assert (ids[~mask] == tokenizer.pad_token_id).all()


def test_single_token_tags_go_without_line_breaks():
    from docs.studies.tiny.tokenizer import build_tokenizer

    tokenizer = build_tokenizer()
    model = checkpoints.source_model("llama", vocab_size=len(tokenizer))
    verbalizer = make(KINDS[0], model, tokenizer)
    ids, mask = verbalizer.encode_responses(["Mary\nJohn"])
    assert tokenizer.decode(ids[0][mask[0]]) == "<explanation>Mary\nJohn</explanation><eos>"
    assert tokenizer.convert_tokens_to_ids("</explanation>") in verbalizer.stop_ids


def test_text_with_the_injection_character(verbalizer):
    with pytest.raises(InputError, match="holds the injection character"):
        verbalizer.encode_responses(["fine", f"a {CHAR}"])


def test_no_texts(verbalizer):
    with pytest.raises(InputError, match="at least one text"):
        verbalizer.encode_responses([])


@pytest.mark.parametrize(
    ("acts", "match"),
    [
        (torch.zeros(0, zoo.D_MODEL), "no activations"),
        (torch.zeros(2, 5), r"shape \(2, 5\); this NLA reads \[n, 32\]"),
        (torch.tensor([[0.0] * 32, [float("nan")] * 32]), r"NaN or infinite values in rows \[1\]"),
        (torch.full((1, 32), float("inf")), r"rows \[0\]"),
    ],
)
def test_bad_vectors(verbalizer, acts, match):
    with pytest.raises(InputError, match=match):
        verbalizer.generate(acts, max_new_tokens=2)


def test_teacher_forcing_names_a_wrong_size(verbalizer):
    with pytest.raises(InputError, match="this NLA reads"):
        verbalizer(torch.zeros(1, 5), torch.zeros(1, 2, dtype=torch.long))


def test_prompt_and_cap_must_fit_the_context(verbalizer, acts):
    with pytest.raises(InputError, match="context of 256; at most"):
        verbalizer.generate(acts, max_new_tokens=257)


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"samples": 0}])
def test_refused_settings(verbalizer, acts, settings):
    with pytest.raises(InputError, match="is 0; at least 1 is needed"):
        verbalizer.generate(acts, max_new_tokens=2, **settings)


def test_modes_and_hooks_are_as_before_also_after_an_error(verbalizer, acts, monkeypatch):
    verbalizer.train()
    verbalizer.model.eval()
    modes = [part.training for part in verbalizer.modules()]

    def hooks():
        return sum(len(part._forward_hooks) for part in verbalizer.modules())

    verbalizer.generate(acts, max_new_tokens=2)
    assert (modes, hooks()) == ([part.training for part in verbalizer.modules()], 0)
    block = decoder_layers(verbalizer.model)[1]
    monkeypatch.setattr(block, "forward", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        verbalizer.generate(acts, max_new_tokens=2)
    assert (modes, hooks()) == ([part.training for part in verbalizer.modules()], 0)


def test_progress_bar(verbalizer, acts, capsys, monkeypatch):
    plain = verbalizer.generate(acts, max_new_tokens=2, batch_size=2)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes what pytest captures for a terminal
    shown = verbalizer.generate(acts, max_new_tokens=2, batch_size=2, progress=True)
    assert plain.texts == shown.texts
    captured = capsys.readouterr()
    assert "explaining" in captured.err
    assert not captured.out  # which may be somebody's JSON


def test_extraction(verbalizer, acts, monkeypatch):
    """A closed explanation counts only when the response also ended within the cap."""
    tokenizer = verbalizer.tokenizer
    from tl_nla.nla.generation import Responses

    raw = ["<explanation> a </explanation></turn>", "<explanation> a </explanation>", "<explanation> a</turn>"]
    raw.append(f"<explanation>a{CHAR}</explanation></turn>")  # words that repeat the marker could not be read back
    rows = [tokenizer.encode(text, add_special_tokens=False) for text in raw]
    width = max(map(len, rows))
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    finished = torch.tensor([True, False, True, True])
    given = Responses(ids, mask, torch.zeros(4, width), finished)
    monkeypatch.setattr(verbalizer, "respond", lambda *rest: given)  # a random model says none of these
    found = verbalizer.generate(torch.ones(4, verbalizer.d_model))
    assert found.extracted.tolist() == [True, False, False, False]
    assert found.closed is found.extracted
    assert found.texts == ["a", "a", raw[2], "a"]


def test_slots_of_prompt_and_injection_must_agree():
    tokenizer, model = checkpoints.byte_tokenizer(), checkpoints.source_model("qwen2")
    prompt = build_verbalizer_prompt(tokenizer, checkpoints.AV_TEMPLATE, CHAR, 2)
    with pytest.raises(InputError, match="1 slots, the prompt 2"):
        Verbalizer(model, tokenizer, prompt, InjectionConfig("raw"))


def test_additive_injection_needs_two_blocks():
    model = checkpoints.source_model("qwen2", num_hidden_layers=1)
    with pytest.raises(InputError, match="this model has blocks 0 to 0"):
        NLA.create(model, checkpoints.byte_tokenizer(), 0, InjectionConfig("additive"))
