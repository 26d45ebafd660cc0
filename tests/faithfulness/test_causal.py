import pytest
import torch

from tests import zoo
from tests.faithfulness.helpers import word_vector
from tl_nla.errors import InputError
from tl_nla.faithfulness.causal import ExplainedTexts, causal_effects, claim_directions, claimed_tokens, outputs_after
from tl_nla.faithfulness.edits import deletions
from tl_nla.metrics import normalise

POINT = "blocks.1.hook_resid_post"


def read(texts):
    rows = [sum((word_vector(w).repeat(2) for w in text.split()), 0.1 * word_vector("").repeat(2)) for text in texts]
    return torch.stack(rows)


def test_zero_change_is_the_model_itself(model):
    tokens = zoo.tokens(3, 9).tolist()
    positions = [2, 8, 5]
    found = outputs_after(model, tokens, positions, POINT, torch.zeros(3, zoo.D_MODEL), batch_size=2)
    for row, position in enumerate(positions):
        alone = model(torch.tensor([tokens[row]]))[0, position].log_softmax(-1)
        torch.testing.assert_close(found[row], alone, rtol=1e-4, atol=1e-4)


def test_only_the_chosen_position_is_changed(model):
    tokens, change = zoo.tokens(1, 6), torch.randn(1, zoo.D_MODEL)
    found = outputs_after(model, tokens.tolist(), [3], POINT, change)

    def add(activation, hook):
        activation = activation.clone()
        activation[:, 3] += change
        return activation

    reference = model.run_with_hooks(tokens, fwd_hooks=[(POINT, add)])[0, 3].log_softmax(-1)
    torch.testing.assert_close(found[0], reference, rtol=1e-4, atol=1e-4)


def test_directions_are_differences_at_the_norm_of_the_state():
    texts, acts = ["One two. Three.", "Four. Five six. Seven."], torch.randn(2, 32) * 7
    edits = deletions(texts)
    directions = claim_directions(read, texts, edits, acts)
    assert directions.shape == (5, 32)
    whole, without = normalise(read([texts[1]]))[0], normalise(read([edits[3].text]))[0]
    torch.testing.assert_close(directions[3], (whole - without) * acts[1].norm() / 32**0.5)


def test_effects_move_the_claimed_word(llama):
    """A direction that raises a word's logit, taken out, lowers that word more than a random one does."""
    tokens, texts = zoo.tokens(2, 6).tolist(), ["One two. Three.", "Four. Five."]
    edits = deletions(texts)
    words = torch.tensor([7, 8, 9, 10])
    point = "blocks.2.hook_resid_post"
    directions = 4 * normalise(llama.W_U.T[words])
    generator = torch.Generator().manual_seed(0)
    effects = causal_effects(llama, ExplainedTexts(tokens, [5, 5], point), edits, directions, words.tolist(), generator)
    assert [effect.row for effect in effects] == [0, 0, 1, 1]
    assert all(effect.own < effect.others for effect in effects)
    assert sum(e.own for e in effects) < sum(e.control for e in effects) - 1
    assert all(effect.kl > 0 for effect in effects)


def test_refusals(llama):
    with pytest.raises(InputError, match="outside text 0 of 3"):
        outputs_after(llama, [[1, 2, 3]], [3], POINT, torch.zeros(1, zoo.D_MODEL))
    with pytest.raises(InputError, match="give one each"):
        outputs_after(llama, [[1, 2, 3]], [1, 2], POINT, torch.zeros(1, zoo.D_MODEL))


def test_claimed_tokens_have_their_space(tokenizer):
    assert claimed_tokens(tokenizer, ["w5", " w6"]).tolist() == [5, 6]
