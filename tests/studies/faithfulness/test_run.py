"""The study of faithfulness on a pair of the embedded model whose words are nonsense."""

import torch

from docs.studies.faithfulness.run import evaluate
from tl_nla.nla.fresh import fresh_nla


def test_on_stories_everything_is_measured(tmp_path):
    torch.manual_seed(0)
    fresh_nla("tiny", 2, "affine").save_pretrained(tmp_path)
    pair = [str(tmp_path / part) for part in ("av", "ar")]
    results = evaluate(nla=pair, reader=[pair[1]], documents=2, max_new_tokens=20)
    metrics = {(row.arm, row.metric) for row in results.rows}
    wanted = {
        ("gold", "claim_precision"), ("gold", "claim_recall/facts"), ("gold", "retention"), ("gold", "legibility"),
        ("gold", "claim_retention/paraphrase"), ("gold", "deletion_loss/next"), ("gold", "substitution_loss"),
        ("gold", "causal_effect/next"), ("gold", "order_optimality/first_1"), ("gold", "excess_marginal_fve/in_quote"),
        ("gold", "cross_reconstructor_gap"), ("explanation", "fve"), ("explanation", "fve/withheld_0.5"),
        ("gold", "judge_agreement/quotes"), ("explanation", "retention/word_order"), ("probe", "claim_precision/next"),
    }  # fmt: skip
    assert wanted <= metrics, wanted - metrics
    found = {(row.arm, row.metric): row.value for row in results.rows}
    assert found["gold", "claim_precision"] == found["gold", "claim_recall"] == 1
    assert found["gold", "judge_agreement/quotes"] == 1
    assert found["gold", "claim_retention/clause_order"] == 1
    assert found["gold", "cross_reconstructor_gap"] == 0  # the same reconstructor was given as the other one
    assert "not_measured" not in results.definition
