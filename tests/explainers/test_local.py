import pytest
import torch

from tests.explainers.moments import moments
from tests.nla import checkpoints
from tl_nla.errors import InputError
from tl_nla.explainers import LocalModelExplainer
from tl_nla.explainers.prompting import PromptTemplates

TEMPLATES = PromptTemplates("{text}:", "{text}:")


@pytest.fixture(scope="module")
def parts():
    return checkpoints.source_model("qwen2").eval(), checkpoints.byte_tokenizer()


def slow_answer(model, tokenizer, question, count):
    """Greedy tokens one by one, without a batch, padding or a cache."""
    chat = [{"role": "user", "content": question}]
    start = tokenizer.apply_chat_template(chat, tokenize=True, add_generation_prompt=True, return_dict=False)
    ids = list(start)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return tokenizer.decode(ids[len(start) :], skip_special_tokens=True).strip()


def test_answers_are_those_of_one_question_at_a_time(parts):
    model, tokenizer = parts
    explainer = LocalModelExplainer(model, tokenizer, templates=TEMPLATES, max_new_tokens=6, batch_size=2)
    given = moments(3)
    found = explainer.explain_all([*given, given[0]])
    for moment, said in zip(given, found, strict=False):
        assert said == slow_answer(model, tokenizer, TEMPLATES.prompt(moment), 6)
    assert found[3] == found[0]


def test_kept_answers_need_no_model(parts, tmp_path):
    model, tokenizer = parts
    path = tmp_path / "answers.jsonl"
    settings = {"cache": path, "templates": TEMPLATES, "max_new_tokens": 4}
    found = LocalModelExplainer(model, tokenizer, **settings).explain_all(moments(2))
    again = LocalModelExplainer(model, tokenizer, **settings)
    again.model = None
    assert again.explain_all(moments(2)) == found


def test_a_tokenizer_is_needed(parts):
    with pytest.raises(InputError, match="needs its tokenizer"):
        LocalModelExplainer(parts[0])
