import json

import pytest
import torch

from docs.studies.tiny.tokenizer import save_tokenizer
from tests import zoo
from tl_nla.benchmark.faithfulness_suite import evaluate
from tl_nla.benchmark.results import read_results
from tl_nla.cli.main import main
from tl_nla.errors import InputError
from tl_nla.nla.fresh import fresh_nla


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An untrained pair of the embedded target, whose words are nonsense."""
    folder = tmp_path_factory.mktemp("pair")
    torch.manual_seed(0)
    fresh_nla("tiny", 2, "affine").save_pretrained(folder)
    return folder


@pytest.fixture
def pair(folder):
    return [str(folder / "av"), str(folder / "ar")]


def test_on_any_texts_what_is_not_known_is_said(pair, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("Some words about nothing.\n\nOther words, said again and again.\n")
    out = tmp_path / "results.json"
    argv = ["evaluate", "faithfulness", "--nla", *pair, "--texts", str(texts), "--max-new-tokens", "20"]
    assert main([*argv, "--json", str(out)]) == 0
    told = capsys.readouterr().err
    for part in ("loading", "capturing states", "explaining", "reading words", "measures of the explanation: 0 of 10"):
        assert part in told
    results = read_results(out)
    assert "what is true in these texts is not known" in results.definition["not_measured"]
    metrics = {row.metric for row in results.rows}
    assert {"fve", "retention", "deletion_loss"} <= metrics
    assert not [m for m in metrics if m.startswith(("claim_precision/who", "claim_recall", "substitution"))]
    assert {row.arm for row in results.rows} <= {"explanation", "random_direction"}
    assert json.loads(out.read_text())["suite"] == "faithfulness"


@pytest.mark.parametrize("family", ["gemma3", "neox"])
def test_any_nla_folder_of_another_family_is_measured(family, tmp_path):
    """A random target, its random pair and texts that nobody wrote for it."""
    tokenizer = save_tokenizer(tmp_path / "model")
    zoo.hf_model(family, vocab_size=len(tokenizer), max_position_embeddings=256).save_pretrained(tmp_path / "model")
    torch.manual_seed(0)
    fresh_nla(tmp_path / "model", 0, "sqrt_d").save_pretrained(tmp_path)
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("What is a text? It is words.", "Others.")))
    nla = [str(tmp_path / part) for part in ("av", "ar")]
    results = evaluate(str(tmp_path / "model"), nla=nla, texts=str(texts), documents=2, max_new_tokens=12)
    metrics = {row.metric for row in results.rows}
    assert {"fve", "retention", "legibility"} <= metrics
    assert not {m for m in metrics if m.startswith(("claim_recall", "substitution", "fve/withheld"))}
    assert results.definition["not_measured"].endswith("what is true in these texts is not known")


def test_refusals(pair, tmp_path):
    with pytest.raises(InputError, match="--nla AV AR"):
        evaluate("some/model")
    with pytest.raises(InputError, match="--texts FILE"):
        evaluate("tiny", nla=pair)
    with pytest.raises(InputError, match="--texts FILE"):
        evaluate("tiny")
    with pytest.raises(InputError, match="no file"):
        evaluate("tiny", nla=pair, texts=str(tmp_path / "none.txt"))
    with pytest.raises(InputError, match="at least 2"):
        evaluate("tiny", nla=pair, documents=1)
