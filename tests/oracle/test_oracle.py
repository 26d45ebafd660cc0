import pytest
import torch
import yaml

from tests import zoo
from tests.nla import checkpoints
from tests.oracle.tiny import make_oracle, vectors
from tl_nla.errors import InputError
from tl_nla.oracle import Answer, DiffOracle
from tl_nla.oracle.labels import StrengthReference


@pytest.fixture(scope="module")
def oracle():
    return make_oracle()


def test_explains_answers_and_reconstructs(oracle):
    before, write = vectors(3)
    texts = oracle.explain(write, before=before, max_new_tokens=4)
    assert texts == oracle.verbalizer.generate(before, write, max_new_tokens=4)
    answers = oracle.ask("skip", write, before=before, max_new_tokens=4)
    assert all(isinstance(answer, Answer) and answer.question == "skip" for answer in answers)
    with pytest.raises(InputError, match="unknown question"):
        oracle.ask("explain", write, before=before)
    assert oracle.reconstruct(["It promotes red", "It"]).shape == (2, zoo.D_MODEL)


def test_reconstructed_norms_are_read_from_the_text(oracle):
    texts = ["It promotes red; strength huge", "It", "It promotes blue"]
    reconstructor = oracle.reconstructor
    ids, mask = reconstructor.encode(texts)
    with torch.no_grad():
        direction, size = reconstructor(ids, mask)
    vectors_back = oracle.reconstruct(texts)
    expected = (reconstructor.log_norm_mean + reconstructor.log_norm_std * size.clamp(-4, 4)).exp()
    torch.testing.assert_close(vectors_back.norm(dim=-1), expected)
    torch.testing.assert_close(torch.nn.functional.cosine_similarity(vectors_back, direction), torch.ones(3))


def test_reconstructor_starts_at_the_usual_magnitude():
    oracle = make_oracle()
    head = oracle.reconstructor.head
    with torch.no_grad():
        head.weight[-1] = 0
    norms = oracle.reconstruct(["It promotes red", "blue"]).norm(dim=-1)
    torch.testing.assert_close(norms, vectors(64)[1].norm(dim=-1).log().mean().exp().expand(2))


def test_saved_and_loaded(oracle, tmp_path):
    before, write = vectors(3)
    oracle.strength = StrengthReference.measure({"blocks.0.mlp": (write, before)})
    for _ in range(2):  # also over a folder that is there
        oracle.save_pretrained(tmp_path / "oracle")
    again = DiffOracle.from_pretrained(tmp_path / "oracle")
    assert {path.name for path in tmp_path.iterdir()} == {"oracle"}
    one, two = (made.explain(write, before=before, max_new_tokens=6) for made in (oracle, again))
    assert one == two
    torch.testing.assert_close(again.reconstruct(["It promotes red"]), oracle.reconstruct(["It promotes red"]))
    ids, _ = oracle.verbalizer.encode_responses(["red", "red", "red"])
    torch.testing.assert_close(again.verbalizer(before, write, ids), oracle.verbalizer(before, write, ids))
    assert again.strength.low == oracle.strength.low
    assert not list((tmp_path / "oracle").rglob("*.bin"))


def test_a_refinement_is_saved_with_the_oracle(tmp_path):
    oracle = make_oracle()
    with torch.no_grad():
        oracle.reconstructor.add_refinement(8).out.bias += 0.5
    oracle.save_pretrained(tmp_path / "oracle")
    again, texts = DiffOracle.from_pretrained(tmp_path / "oracle"), ["It promotes red", "It"]
    torch.testing.assert_close(again.reconstruct(texts), oracle.reconstruct(texts))
    assert not torch.allclose(again.reconstruct(texts), again.reconstruct(texts, refined=False))
    oracle.reconstructor.refinement = None
    oracle.save_pretrained(tmp_path / "oracle")
    assert DiffOracle.from_pretrained(tmp_path / "oracle").reconstructor.refinement is None


def test_damaged_folders_are_refused(oracle, tmp_path):
    oracle.save_pretrained(tmp_path / "oracle")
    sidecar = tmp_path / "oracle" / "oracle.yaml"
    values = yaml.safe_load(sidecar.read_text())
    with pytest.raises(InputError, match="no folder of a diff oracle"):
        DiffOracle.from_pretrained(tmp_path)
    sidecar.write_text(yaml.safe_dump({**values, "version": 2}))
    with pytest.raises(InputError, match="version 2"):
        DiffOracle.from_pretrained(tmp_path / "oracle")
    sidecar.write_text(yaml.safe_dump({key: value for key, value in values.items() if key != "scale"}))
    with pytest.raises(InputError, match="lacks scale"):
        DiffOracle.from_pretrained(tmp_path / "oracle")
    for key, value in (("scale", None), ("scale", 0), ("scale", float("inf")), ("d_act", None), ("d_act", 2.5)):
        sidecar.write_text(yaml.safe_dump({**values, key: value}))
        with pytest.raises(InputError, match=f"has {key} {value!r}; it must be a number above 0"):
            DiffOracle.from_pretrained(tmp_path / "oracle")
    sidecar.write_text(yaml.safe_dump(values))
    (tmp_path / "oracle" / "slots.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="not a whole safetensors"):
        DiffOracle.from_pretrained(tmp_path / "oracle")


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "gemma3"])
def test_other_families_tokenizers_and_widths(family, tmp_path):
    tokenizer = checkpoints.byte_tokenizer()
    model = checkpoints.source_model(family)
    template = "<concept>{injection_char}</concept>{question}"
    oracle = DiffOracle.create(model, tokenizer, d_act=24, template=template, blocks=2)
    before, write = vectors(2, 24)
    oracle.fit(before, write)
    oracle.save_pretrained(tmp_path / "oracle")
    again = DiffOracle.from_pretrained(tmp_path / "oracle")
    one, two = (made.explain(write, before=before, max_new_tokens=5) for made in (oracle, again))
    assert one == two
    torch.testing.assert_close(again.reconstruct(["ab", "c"]), oracle.reconstruct(["ab", "c"]))


def test_the_model_given_is_left_alone():
    model = zoo.hf_model("llama", vocab_size=len(checkpoints.byte_tokenizer()))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    oracle = DiffOracle.create(
        model, checkpoints.byte_tokenizer(), template="<concept>{injection_char}</concept>{question}"
    )
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.zero_()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert len(model.model.layers) == 3


@pytest.mark.parametrize(
    "name",
    ["verbalizer.model.model.embed_tokens.weight", "verbalizer.slots.bias", "reconstructor.head.weight",
     "reconstructor.log_norm_std", "reconstructor.refinement.first.weight"],
)  # fmt: skip
def test_weights_that_are_not_finite_are_not_saved_over_finite_ones(name, tmp_path):
    oracle = make_oracle()
    oracle.reconstructor.add_refinement(8)
    oracle.save_pretrained(tmp_path / "oracle")
    oracle.state_dict()[name].data.view(-1)[0] = float("nan")
    with pytest.raises(InputError, match=r"NaN or infinite values in .*nothing was saved"):
        oracle.save_pretrained(tmp_path / "oracle")
    assert torch.isfinite(DiffOracle.from_pretrained(tmp_path / "oracle").state_dict()[name]).all()


def test_a_folder_of_other_files_is_not_replaced(tmp_path, monkeypatch):
    """It used to be: ``save_pretrained("runs")`` removed whatever else was in runs."""
    oracle = make_oracle()
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    for folder in (".", tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(InputError, match=r"notes\.txt"):
            oracle.save_pretrained(folder)
    oracle.save_pretrained("oracle")
    (tmp_path / "oracle" / "checkpoint.ckpt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'checkpoint\.ckpt', which would be lost"):
        oracle.save_pretrained("oracle")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_precision_and_device_by_name(oracle, tmp_path):
    oracle.save_pretrained(tmp_path / "oracle")
    low = DiffOracle.from_pretrained(tmp_path / "oracle", dtype="bfloat16", device="cpu")
    assert next(low.verbalizer.model.parameters()).dtype == torch.bfloat16
    assert low.reconstruct(["It promotes red"]).shape == (1, zoo.D_MODEL)
    for wrong in ({"dtype": "int3"}, {"device": "gpu7"}):
        with pytest.raises(InputError):
            DiffOracle.from_pretrained(tmp_path / "oracle", **wrong)
