import pytest
import torch

from docs.studies.contributions.planted_facts import FactScore, ablate_one_at_a_time
from docs.studies.contributions.recoveries import Recoveries, load_recoveries, recovery_rows, save_recoveries
from docs.studies.contributions.run import evaluate, fact_rows
from tests import zoo
from tests.attribution.reference import leave_out
from tl_nla.attribution import all_components
from tl_nla.errors import InputError


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_ablation_is_one_component_and_one_position_at_a_time(family, get_model):
    model, tokens, columns = get_model("bridge", family), zoo.tokens(1, 7), [2, 5]
    targets = tokens[0, [3, 6]]
    parts = all_components(model, ("head", "mlp"))
    found = ablate_one_at_a_time(model, tokens, parts, columns, targets)
    clean = model(tokens).detach().log_softmax(-1)[0]
    for row, part in enumerate(parts):
        for column, position in enumerate(columns):
            changed = leave_out(model, tokens, part, position).detach().log_softmax(-1)[0, position]
            wanted = (changed - clean[position])[targets[column]]
            torch.testing.assert_close(found[row, column], wanted, atol=1e-5, rtol=1e-4)


def make_score(story, precision):
    return FactScore(story, "colour", 30, precision, 0.5, 0.25, 1e-6, True, story % 2 == 0, False)


def test_rows_of_facts_and_of_recovery(tmp_path):
    rows = fact_rows([make_score(story, 1.0) for story in range(6)], "gold")
    found = {row.metric: row.value for row in rows}
    assert found["precision_at_3/skips"] == 1.0
    assert found["recall_at_3/fact_sources"] == 0.5
    told = {row.metric: row.value for row in fact_rows([make_score(0, 1.0)], "explanation")}
    assert told["recall_at_3/fact_sources"] == 0.0
    kl = torch.tensor([[4.0, 4.0, 2.0], [2.0, 2.0, 1.0], [0.4, 0.4, 0.2]])
    parts = [Recoveries(seed, torch.tensor([0, 0, 1]), {"gold": kl}, {"gold": kl < 1}) for seed in (0, 1)]
    save_recoveries(parts, tmp_path / "rows.safetensors")
    again = load_recoveries(tmp_path / "rows.safetensors")
    assert [part.seed for part in again] == [0, 1]
    values = {(row.metric, row.layer): row.value for row in recovery_rows(again)}
    assert values["kl_recovered", 0] == pytest.approx(0.5)
    assert values["kl_recovered", 1] == values["kl_recovered", None] == pytest.approx(0.9)
    assert values["top1_agreement", None] == 1.0


def test_nothing_to_score_is_said(tmp_path):
    with pytest.raises(InputError, match="no planted fact"):
        fact_rows([], "gold")
    with pytest.raises(InputError, match="no stored results"):
        load_recoveries(tmp_path / "none")
    with pytest.raises(InputError, match="embedded world"):
        evaluate("gpt2")


def test_a_report_of_the_embedded_target_finds_what_decided():
    from docs.studies.contributions.planted_facts import score_story
    from tl_nla.model.targets import load_target
    from tl_nla.storyworld.corpus import held_out_stories

    target = load_target()
    scores = score_story(target.model, target.tokenizer, held_out_stories(1, 1)[0], 0)
    assert len(scores) >= 2
    assert max(score.largest_difference for score in scores) < 1e-3
    assert all(score.precision == 1.0 for score in scores)
