"""Lightning's predict runs sweeps: the adapter's texts, in the order of the prompts."""

import json

import lightning as L
import pytest
import torch

import tl_nla
from lightning_modules.training.steering import SteeringPrompt, SteeringPrompts, SteeringSweep, SteeringWriter
from tl_nla.adapters import SteeringAdapter
from tl_nla.errors import InputError

PROMPTS = [
    SteeringPrompt("Tom found a kite painted red. Tom felt happy. The kite was", "red->yellow"),
    SteeringPrompt("Ivy had a drum painted blue. The drum was", "blue->green", "green"),
    SteeringPrompt("Tom found a kite painted red. Tom felt happy. The kite was", "red->blue"),
]


def predict(data, module, tmp_path):
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                        callbacks=[SteeringWriter(str(tmp_path / "runs.jsonl"))])  # fmt: skip
    return [run for batch in trainer.predict(module, datamodule=data) for run in batch]


def test_a_sweep_is_the_adapters_runs(tmp_path):
    lines = [json.dumps({"prompt": one.prompt, "rewrite": one.rewrite, "expect": one.expect}) for one in PROMPTS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    data = SteeringPrompts(str(tmp_path / "prompts.jsonl"), 3)
    assert data.prompts == PROMPTS
    module = SteeringSweep(modes=("delta", "replace"), strengths=(0.0, 1.0), new_tokens=6)
    runs = predict(data, module, tmp_path)
    assert [run["prompt"] for run in runs] == [one.prompt for one in PROMPTS for _ in range(4)]
    written = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert written == runs
    assert all(run["steered"] == run["unsteered"] for run in runs if run["strength"] == 0)
    said = [run["steered"].split()[0].strip(".") for run in runs if run["strength"] == 1]
    assert said == ["yellow", "yellow", "green", "green", "blue", "blue"]
    target, nla = module.pair()
    adapter = SteeringAdapter(nla, nla.site, PROMPTS[1].rewriter(), positions=-1, generated=False)
    tokens = target.model.to_tokens(PROMPTS[1].prompt)
    with tl_nla.attach(target.model, adapter), torch.no_grad():
        grown = target.model.generate(tokens, max_new_tokens=6, do_sample=False, verbose=False)
    assert runs[5]["steered"] == target.tokenizer.decode(grown[0, tokens.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SteeringPrompt("The kite was"), "edit"),
        (lambda: SteeringPrompts([]), "no prompts"),
        (lambda: SteeringPrompts("missing.jsonl"), "missing.jsonl"),
        (lambda: SteeringPrompts(PROMPTS, 0), "batch_size"),
        (lambda: SteeringSweep(modes=("add",)), "delta"),
        (lambda: SteeringSweep(strengths=()), "strengths"),
    ],
)
def test_refuses(make, says):
    with pytest.raises(InputError, match=says):
        make()


def test_a_bad_line_is_named(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a", "rewrite": "b->c"}\n{"text": "a"}\n')
    with pytest.raises(InputError, match="line 2"):
        SteeringPrompts(str(tmp_path / "prompts.jsonl"))
