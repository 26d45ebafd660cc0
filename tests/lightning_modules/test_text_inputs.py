"""The begin token and the numbers of the data modules, in Python and in YAML."""

import lightning as L
import pytest
import yaml

from lightning_modules import ActivationCapture, ContributionReportCallback, DocumentDataModule, SteeringSweep
from lightning_modules.callbacks.samples import ExplanationSamples
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.data.captured import CapturedDataModule
from lightning_modules.training.contribution import ContributionDataModule, LayerContribution
from lightning_modules.training.diff import DiffDataModule
from lightning_modules.training.source_training import SourceDataModule
from lightning_modules.training.steering import SteeringPrompt, SteeringPrompts
from tests import tokenizers
from tests.lightning_modules.grouping import made
from tests.oracle.tiny import make_oracle
from tl_nla.cli.main import main
from tl_nla.data import Document
from tl_nla.data.shards import read_index, read_shard
from tl_nla.errors import InputError
from tl_nla.reports import ContributionReport, ReportConfig

DOCUMENTS = [Document(f"d/{n}", f"Text {n} is {'very ' * (n % 3)}short.") for n in range(16)]
ALL = 1000


@pytest.fixture(scope="module")
def qwen():
    """A bridge whose texts get no begin token unless they are told to."""
    return tokenizers.bridge("qwen2", "qwen")


def length(tokenizer, text):
    return len(tokenizer.encode(text, add_special_tokens=False))


def total(tokenizer, documents=DOCUMENTS):
    return sum(length(tokenizer, document.text) for document in documents)


@pytest.mark.parametrize(("prepend_bos", "more"), [(None, 0), (False, 0), (True, 1)])
def test_states(qwen, prepend_bos, more):
    model, tokenizer = qwen
    data = made(
        ActivationDataModule, model, tokenizer, "blocks.1.hook_resid_post", source=DOCUMENTS, documents=16,
        positions_per_document=ALL, batch_size=4, heldout=0.3, prepend_bos=prepend_bos,
    )  # fmt: skip
    data.setup()
    # Position 0 is never drawn: the begin token, or the first byte of the text.
    found = len(data.train_states) + len(data.heldout_states)
    assert found == total(tokenizer) - len(DOCUMENTS) + more * len(DOCUMENTS)


@pytest.mark.parametrize(("prepend_bos", "more"), [(None, 0), (True, 1)])
def test_writes(qwen, prepend_bos, more):
    model, tokenizer = qwen
    few = DOCUMENTS[:5]
    common = {"source": few, "documents": 5, "positions_per_document": ALL, "heldout": 0.3}
    rows = total(tokenizer, few) - len(few) + more * len(few)
    diff = made(DiffDataModule, model, tokenizer, ("blocks.0.mlp",), skips=False, prepend_bos=prepend_bos, **common)
    diff.setup()
    assert len(diff.train_writes) + len(diff.heldout_writes) == rows
    for texts in ("gold", "cat"):
        data = made(ContributionDataModule, model, tokenizer, texts=texts, prepend_bos=prepend_bos, **common)
        data.setup()
        assert len(data.train_residuals) + len(data.heldout_residuals) == rows
    words = [text for texts in data.train_texts for text in texts]
    assert not any("<|im_end|>" in text for text in words), "a context holds no begin token that was added"
    assert words[0].startswith("layer 0 head 0 T")


def test_sources(qwen, monkeypatch):
    model, tokenizer = qwen
    seen = []

    def stop(model, tokenizer, documents, config):
        seen.append(config.prepend_bos)
        raise InputError("seen")

    monkeypatch.setattr("tl_nla.oracle.source_examples.drawn_rows", stop)
    data = made(
        SourceDataModule, model, tokenizer, source=DOCUMENTS, documents=16, positions_per_document=2, heldout=0.3,
        prepend_bos=True,
    )  # fmt: skip
    with pytest.raises(InputError):
        data.setup()
    assert seen == [True]


@pytest.mark.filterwarnings("ignore:Couldn't infer the batch indices")
def test_shards(qwen, tmp_path):
    model, tokenizer = qwen
    found = {}
    for given in (None, True):
        folder = tmp_path / str(given)
        module = made(ActivationCapture, folder=str(folder), model=model, tokenizer=tokenizer, prepend_bos=given,
                      site="blocks.1.hook_resid_post", positions_per_document=ALL)  # fmt: skip
        trainer = L.Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False)
        data = DocumentDataModule(DOCUMENTS, 16, 16, heldout=0.3)
        trainer.predict(module, datamodule=data, return_predictions=False)
        index = read_index(folder)
        found[given] = len(read_shard(folder / index["shards"][0]["file"]).document)
        assert module.settings().get("prepend_bos", "untold") == ("untold" if given is None else given)
    assert found[True] == found[None] + len(DOCUMENTS)


def test_prompts(qwen):
    model, tokenizer = qwen
    module = LayerContribution(oracle=make_oracle(), target=model, tokenizer=tokenizer, prepend_bos=True)
    [report] = module.predict_step(["Hi"], 0)
    assert ContributionReport.from_dict(report).tokens == ("<|im_end|>", "H", "i")
    config = ReportConfig(prepend_bos=True)
    callback = ContributionReportCallback(["Hi"], 1, model, tokenizer, oracle=None, config=config)
    callback.on_train_end(L.Trainer(accelerator="cpu", logger=False, fast_dev_run=True), module)
    assert callback.reports["prompt_0"].tokens == ("<|im_end|>", "H", "i")


def test_steering_sweeps():
    texts = []
    for given in (None, False):
        module = SteeringSweep(new_tokens=2, prepend_bos=given)
        target, _ = module.pair()
        texts.append(target.model.to_tokens("Tom was")[0].tolist())
    assert texts[0][1:] == texts[1]


def test_yaml(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tokenizers.save_model(tmp_path / "model", "qwen2", "qwen", max_position_embeddings=1024)
    (tmp_path / "text.txt").write_text("\n\n".join(document.text for document in DOCUMENTS))
    corpus = {"source": "text.txt", "documents": 16, "positions_per_document": 3, "heldout": 0.3, "prepend_bos": True}
    settings = {"model": "model", "site": "blocks.1.hook_resid_post", "corpus": corpus, "serving": {"batch_size": 2}}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    config = {
        "model": {"class_path": "lightning_modules.VerbalizerWarmStart",
                  "init_args": {"model": "model", "layer": 1, "injection": "constant"}},
        "data": {"class_path": "lightning_modules.ActivationDataModule", "init_args": settings},
        "trainer": {"max_steps": 1, "logger": False, "accelerator": "cpu", "limit_val_batches": 0, **quiet},
    }  # fmt: skip
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(config))
    seen = []
    from tl_nla.model.text import TextEncoder

    plain = TextEncoder.__init__

    def init(self, tokenizer, model=None, prepend_bos=None):
        seen.append(prepend_bos)
        plain(self, tokenizer, model, prepend_bos)

    monkeypatch.setattr(TextEncoder, "__init__", init)
    assert main(["fit", "-c", "my.yaml"]) == 0
    assert set(seen) == {True}
    assert main(["fit", "-c", "my.yaml", "--data.init_args.corpus.prepend_bos", "perhaps"]) == 2
    assert "prepend_bos" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: made(ActivationDataModule, documents=0), "documents is 0; at least 1"),
        (lambda: made(ActivationDataModule, batch_size=-2), "batch_size is -2"),
        (lambda: made(ActivationDataModule, positions_per_document=0), "positions_per_document is 0"),
        (lambda: made(ActivationDataModule, num_workers=-1), "num_workers is -1"),
        (lambda: made(ActivationDataModule, heldout=1.5), "heldout is 1.5"),
        (lambda: made(ActivationDataModule, heldout=float("nan")), "heldout is nan"),
        (lambda: made(ActivationDataModule, prepend_bos="no"), None),
        (lambda: made(DiffDataModule, documents=0), "documents is 0"),
        (lambda: made(ActivationCapture, "x", positions_per_document=0), "positions_per_document is 0"),
        (lambda: made(ActivationCapture, "x", batch_size=0), "batch_size is 0"),
        (lambda: DocumentDataModule(documents=0), "documents is 0"),
        (lambda: CapturedDataModule("x", window=0), "window is 0"),
        (lambda: ExplanationSamples(rows=0), "rows is 0"),
        (lambda: SteeringPrompts([SteeringPrompt("a", "b->c")], 0), "batch_size is 0"),
        (lambda: SteeringSweep(new_tokens=0), "new_tokens is 0"),
        (lambda: SteeringSweep(strengths=(float("nan"),)), "strength is nan"),
        (lambda: SteeringPrompt(None, "a->b"), "prompt is NoneType"),
        (lambda: SteeringPrompt("a", "b->c", 5), "expect is int"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_numbers_that_cannot_be_used(make, says):
    if says is None:
        assert make() is not None  # told when the texts are read
        return
    with pytest.raises(InputError, match=says):
        make()


@pytest.mark.usefixtures("unchecked")
def test_what_is_captured_from(qwen):
    from tl_nla.data import load_documents
    from tl_nla.data.streams import stream_documents
    from tl_nla.oracle import CaptureConfig, capture_writes
    from tl_nla.storyworld.explained import WorldCapture, explain_states

    model, tokenizer = qwen
    for settings, says in (
        ({"positions_per_document": 0}, "positions_per_document is 0"),
        ({"positions_per_document": 1.5}, "positions_per_document is 1.5"),
        ({"min_position": -1}, "min_position is -1"),
        ({"how": WorldCapture(batch_size=0)}, "batch_size is 0"),
        ({"how": WorldCapture(prepend_bos="no")}, "prepend_bos is 'no'"),
    ):
        with pytest.raises(InputError, match=says):
            explain_states(model, tokenizer, DOCUMENTS, "blocks.1.hook_resid_post", **settings)
    for bad in (["text"], [None], [{"text": "a"}]):
        with pytest.raises(InputError, match="document 0 is"):
            explain_states(model, tokenizer, bad, "blocks.1.hook_resid_post")
        with pytest.raises(InputError, match="document 0 is"):
            capture_writes(model, tokenizer, bad, ["blocks.0.mlp"])
    with pytest.raises(InputError, match="the text is NoneType"):
        explain_states(model, tokenizer, [Document("a", None)], "blocks.1.hook_resid_post")
    for config in ({"top_k": 1.5}, {"batch_size": 0}):
        with pytest.raises(InputError, match=next(iter(config))):
            CaptureConfig(**config)
    for limit in (0, -1, 1.5):
        for read in (load_documents, stream_documents):
            with pytest.raises(InputError, match="limit is"):
                read("world", limit)
