"""The study of words on a random tiny model: every arm has its scores, and what must hold by construction does."""

import json

import pytest
import torch

from docs.studies.smollm2 import capture
from docs.studies.smollm2.capture import HeadRows
from docs.studies.smollm2.readers import Truth, fitted, scores
from docs.studies.smollm2.run import main
from docs.studies.smollm2.words import first_words, strongest, two_lists
from tests import zoo
from tests.smollm2 import standin
from tl_nla.errors import InputError
from tl_nla.oracle.labels import pursue
from tl_nla.oracle.labels.directions import WordDirections


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Scores of two heads, the captured writes, and the command."""
    home = tmp_path_factory.mktemp("study")
    standin.folder(home / "model")
    for name, start in (("train.jsonl", 0), ("held_out.jsonl", 100)):
        with (home / name).open("w") as file:
            for number in range(start, start + 40):
                words = [f"w{i}" for i in zoo.tokens(1, 160, number)[0].tolist()]
                row = {"text": " ".join(words), "kind": f"k{number % 2}", "document": f"d{number}", "piece": 0}
                file.write(json.dumps(row) + "\n")
    options = {"--model": "model", "--corpus": ".", "--rows": "rows.jsonl", "--writes": "writes.safetensors"}
    command = [part for name, path in options.items() for part in (name, str(home / path))]
    command += ["--layers", "1", "--heads", "0", "2", "--documents", "12", "6"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "_FIRST", 16)
        patch.setattr("docs.studies.smollm2.run.whole_words", lambda tokenizer, vocabulary, counts: counts > 0)
        main(command)
    return home, command, [json.loads(line) for line in (home / "rows.jsonl").read_text().splitlines()]


def test_every_arm_has_scores_and_the_same_command_does_nothing_again(scored):
    home, command, rows = scored
    arms = {row["arm"] for row in rows}
    texts = {"topk", "topk_beside", "pursuit", "pursuit_words"}
    assert texts | {f"{arm}/shuffled" for arm in texts} | {"context", "component", "probe", "permuted"} <= arms
    for arm in texts:
        assert {row["words"] for row in rows if row["arm"] == arm} == {4, 8, 16}
    assert {row["site"] for row in rows} == {"blocks.1.attn.head.0", "blocks.1.attn.head.2"}
    before = (home / "rows.jsonl").read_text()
    main(command)
    assert (home / "rows.jsonl").read_text() == before


def test_what_holds_by_construction(scored):
    _, _, rows = scored
    for site in {row["site"] for row in rows}:
        own = {(row["arm"], row["words"]): row for row in rows if row["site"] == site}
        # Words of both signs rebuild most of a width of 8; the component's mean explains nothing beside itself.
        assert own["pursuit", 8]["fve"] > 0.5
        assert abs(own["component", 0]["fve"]) < 0.05
        assert own["pursuit/shuffled", 8]["fve"] < 0
        assert own["topk", 8]["fve"] > 0.3 > own["topk/shuffled", 8]["fve"]
        assert own["pursuit", 8]["fve_low"] <= own["pursuit", 8]["fve"] <= own["pursuit", 8]["fve_high"]


def test_the_table_has_a_column_a_head_and_a_line_an_arm(scored, capsys):
    _, command, rows = scored
    main([*command, "--table"])
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head == "| arm | layer 1, head 0 | layer 1, head 2 |"
    assert len(lines) == len(rows) / 2
    fve = next(row["fve"] for row in rows if (row["arm"], row["words"]) == ("pursuit", 8))
    assert (
        next(line for line in lines if line.startswith("| pursuit, 8 words |"))
        .split("|")[2]
        .startswith(f" {fve:.2f} [")
    )


def test_writes_are_read_back_and_no_document_is_on_both_sides(scored):
    home, _, _ = scored
    rows = HeadRows.load(home / "writes.safetensors")
    assert rows.write.shape[:2] == (2, len(rows.document))
    assert not set(rows.document[rows.held].tolist()) & set(rows.document[~rows.held].tolist())
    with pytest.raises(InputError, match="make corpus"):
        capture.read_corpus(home / "none.jsonl", 3)


def test_a_shorter_pursuit_is_the_beginning_of_a_longer_one():
    table = torch.nn.functional.normalize(torch.randn(200, 12), dim=1)
    words = WordDirections(torch.arange(200), tuple(map(str, range(200))), table, torch.eye(12), torch.ones(200))
    vectors = torch.randn(7, 12)
    long, short = pursue(vectors, words, 9), pursue(vectors, words, 4)
    word, weight = first_words(vectors, long.word, words, 4)
    assert torch.equal(word, short.word)
    torch.testing.assert_close(weight, short.weight, atol=1e-3, rtol=1e-3)
    lists = two_lists(word, weight)
    for row in range(7):
        signed = [*lists.up[row][lists.up[row] >= 0].tolist(), *lists.down[row][lists.down[row] >= 0].tolist()]
        assert sorted(signed) == sorted(word[row].tolist())
        assert (weight[row][word[row] == lists.up[row, 0]] > 0).all()
    most = strongest(vectors, table, torch.ones(200), 4)
    assert torch.equal(most.up[:, 0], (vectors @ table.T).argmax(1))
    assert torch.equal(most.down[:, 0], (vectors @ table.T).argmin(1))


def test_a_reader_that_knows_the_write_scores_one_and_the_mean_scores_nothing():
    write = torch.randn(200, 6) + 2
    held = torch.arange(200) >= 150
    square = (write - write.mean()).square().sum(1)
    truth = Truth(write, write[~held].mean(0), square, torch.arange(200) // 5, held)
    found = scores(write[held], truth)
    assert found["fve"] == pytest.approx(1)
    assert found["fve_all"] == pytest.approx(1)
    assert scores(truth.own.expand(50, -1), truth)["fve"] == pytest.approx(0, abs=1e-6)
    inputs = write @ torch.randn(6, 6)
    assert scores(fitted(inputs, truth).predict(inputs[held]), truth)["fve"] > 0.99
