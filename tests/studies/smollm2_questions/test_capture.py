"""Truths about writes are those of plain passes of the model."""

import torch

from docs.studies.smollm2_questions.capture import KINDS, Survey, Writes, capture
from docs.studies.smollm2_questions.score import Asked, judged
from tests import zoo


@torch.no_grad()
def test_truths_are_those_of_plain_passes():
    model = zoo.hf_model("llama").eval()
    model.set_attn_implementation("eager")
    tokens = torch.randint(5, 60, (3, 48), generator=torch.Generator().manual_seed(0))
    heads, width = ((0, 1), (1, 0)), model.config.hidden_size // model.config.num_attention_heads
    known = Survey(heads, torch.randn(2, width, generator=torch.Generator().manual_seed(1)))
    words = torch.ones(model.config.vocab_size, dtype=torch.bool)
    words[:20] = False
    found = capture((model, model), tokens, torch.arange(3), known, words)
    whole = model(tokens, output_attentions=True)
    clean = whole.logits[:, -1].log_softmax(-1)
    for number, (layer, head) in enumerate(heads):
        rows = torch.nonzero(found.head == number).flatten()
        out, columns = model.model.layers[layer].self_attn.o_proj, slice(head * width, (head + 1) * width)

        def replace(_module, args, columns=columns, number=number):
            z = args[0].clone()
            z[:, -1, columns] = known.mean[number]
            return (z,)

        hook = out.register_forward_pre_hook(replace)
        moved = model(tokens).logits[:, -1].log_softmax(-1)
        hook.remove()
        torch.testing.assert_close(found.effect[rows], (clean.exp() * (clean - moved)).sum(-1), rtol=1e-3, atol=1e-6)
        place = whole.attentions[layer][:, head, -1, 1:].argmax(-1) + 1
        assert (found.offset[rows] == 47 - place).all()
        promoted = found.answer[rows, KINDS.index("promoted")]
        scores = found.vector[rows] * model.model.norm.weight @ model.lm_head.weight.T
        assert (promoted == scores[:, 20:].argmax(1) + 20).all()


def test_an_answer_counts_where_there_is_a_right_one():
    words = torch.ones(6, dtype=torch.bool)
    goal = {"attended": torch.tensor([2, -1]), "promoted": torch.tensor([3, 4]), "suppressed": torch.tensor([1, 1])}
    choices = {kind: torch.tensor([[int(one), 0, 5] for one in goal[kind]]) for kind in goal}
    number = torch.zeros(2, dtype=torch.long)
    writes = Writes(((0, 0),), number, torch.zeros(2, 1), torch.stack(list(goal.values()), 1), torch.zeros(2), number,
                    number, number, number)  # fmt: skip
    asked = Asked(writes, torch.zeros(2, 1), goal, choices, dict.fromkeys(goal, words), torch.tensor([1, 0]))
    logits = torch.zeros(2, 6)
    logits[0, 3], logits[0, 2], logits[1, 5] = 2.0, 1.0, 1.0
    first, second = judged(asked, dict.fromkeys(goal, logits))
    assert first["promoted"] == {"right": 1, "wins": 1, "is": ["promoted"]}
    assert first["attended"] == {"right": 0, "wins": 1, "is": ["promoted"]}
    assert "attended" not in second
    assert second["promoted"] == {"right": 0, "wins": 0, "is": []}
