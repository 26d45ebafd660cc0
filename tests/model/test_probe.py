import threading

import pytest
import torch

from tests import zoo
from tl_nla.attribution import direct_attribution
from tl_nla.errors import InputError
from tl_nla.model.probe import lock_of, muted, probe, probe_tokens
from tl_nla.model.reading import read

SITES = ("blocks.0.hook_resid_post", "blocks.1.attn", "blocks.2.mlp", "blocks.1.attn.head.2", "blocks.2")


def noting(notes, name):
    def function(activation, hook):
        notes.append(name)

    return function


@pytest.fixture
def users_hooks(model):
    """Hooks of a user: two at one point, one of them permanent, one at another."""
    notes = []
    model.hook_dict["blocks.1.hook_resid_post"].add_hook(noting(notes, "first"))
    model.hook_dict["blocks.1.hook_resid_post"].add_hook(noting(notes, "second"), is_permanent=True)
    model.hook_dict["blocks.0.hook_resid_pre"].add_hook(noting(notes, "zeroth"))
    yield notes
    model.reset_hooks(including_permanent=True)


def test_muted_hooks_are_silent_and_then_back_in_order(model, users_hooks):
    with muted(model):
        model(zoo.tokens())
        assert users_hooks == []
    model(zoo.tokens())
    assert users_hooks == ["zeroth", "first", "second"]
    model.reset_hooks()
    users_hooks.clear()
    model(zoo.tokens())
    assert users_hooks == ["second"]  # the permanent one alone


def test_muted_hooks_are_back_when_the_model_raises(model, users_hooks):
    with pytest.raises((IndexError, RuntimeError)), muted(model):
        model(torch.tensor([[10**6]]))
    users_hooks.clear()
    model(zoo.tokens())
    assert users_hooks == ["zeroth", "first", "second"]


def test_a_users_hook_can_be_taken_off_after_it_was_muted(model):
    notes = []
    point = model.hook_dict["blocks.1.hook_resid_post"]
    point.add_hook(noting(notes, "user"))
    with muted(model):
        pass
    point.fwd_hooks.pop().hook.remove()
    model(zoo.tokens())
    assert notes == []


def test_the_probe_shows_the_run_without_the_users_hooks(model, users_hooks):
    model.hook_dict["blocks.0.hook_resid_post"].add_hook(lambda value, hook: 3 * value)
    values, logits = probe(model)
    assert users_hooks == []
    model.reset_hooks(including_permanent=True)
    expected, cache = model.run_with_cache(probe_tokens(model))
    torch.testing.assert_close(logits, expected)
    assert len(values) > 10
    for name, value in values.items():
        torch.testing.assert_close(value, cache[name])


def test_a_model_that_raises_is_told_by_its_own_words(get_model):
    model = zoo.bridge("gpt2", with_tokenizer=False)
    handle = model.blocks[1].register_forward_pre_hook(lambda *given: (_ for _ in ()).throw(RuntimeError("no\nsuch")))
    with pytest.raises(InputError, match=r"cannot be run on token ids of shape \(1, 8\): RuntimeError: no$"):
        probe(model)
    handle.remove()
    assert not zoo.hook_counts(model)
    assert probe(model)[1].shape == (1, 8, zoo.VOCAB)


def test_probe_tokens_fit_the_model(model):
    tokens = probe_tokens(model)
    assert tokens.shape == (1, 8)
    assert len(set(tokens[0].tolist())) == 8
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < zoo.VOCAB


def test_a_model_has_one_lock(model):
    assert lock_of(model) is lock_of(model)
    assert lock_of(model) is not lock_of(torch.nn.Linear(1, 1))
    with lock_of(model), lock_of(model):  # may be taken again by who has it
        pass


def in_threads(work, count=4):
    """Run ``work(number)`` in several threads at once; the errors of all of them."""
    errors, start = [], threading.Barrier(count)

    def run(number):
        try:
            start.wait()
            work(number)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_threads_that_read_one_model_get_the_states_of_one_thread(model):
    texts = [zoo.tokens(1, 5, seed=number) for number in range(4)]
    alone = [read(model, tokens, SITES) for tokens in texts]

    def work(number):
        for turn in range(25):
            own = (number + turn) % 4
            found = read(model, texts[own], SITES)
            for site in SITES:
                torch.testing.assert_close(found.precise(site), alone[own].precise(site))

    assert in_threads(work) == []


def test_threads_that_attribute_and_read_do_not_mix(llama):
    texts = [zoo.tokens(1, 5, seed=number) for number in range(4)]
    alone = [direct_attribution(llama, tokens, 5).values for tokens in texts]

    def work(number):
        for _ in range(3):
            read(llama, texts[number], SITES)
            torch.testing.assert_close(direct_attribution(llama, texts[number], 5).values, alone[number])

    assert in_threads(work) == []
