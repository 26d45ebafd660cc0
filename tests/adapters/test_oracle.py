"""The adapter that asks oracles: states, differences, positions together, controls."""

import pytest
import torch

from tests import zoo
from tl_nla import ActivationOracleAdapter, attach
from tl_nla.errors import InputError
from tl_nla.model.loading import load_causal_lm
from tl_nla.model.reading import read
from tl_nla.model.targets import load_target
from tl_nla.nla.activation_oracle import ActivationOracle, Asking
from tl_nla.nla.formats.testing import write_activation_oracle

pytest.importorskip("peft")
CAP = Asking(max_new_tokens=4)
SITES = ["blocks.1.hook_resid_post", "blocks.2.hook_resid_post"]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    written = write_activation_oracle(tmp_path_factory.mktemp("ao"))
    return ActivationOracle.from_pretrained(written.folder), load_target(written.base).model


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    return ActivationOracle.from_pretrained(write_activation_oracle(tmp_path_factory.mktemp("mlao"), "several").folder)


def asked(oracle, model, site, positions=-1, tokens=None, **settings):
    adapter = ActivationOracleAdapter(oracle, site, positions)
    with attach(model, adapter):
        model(zoo.tokens() if tokens is None else tokens)
    return adapter.ask("Why?", asking=CAP, **settings)


def test_states_are_asked_about_with_their_layer(one):
    oracle, model = one
    answers = asked(oracle, model, SITES, [2, -1])
    reading = read(model, zoo.tokens(), SITES, [2, -1])
    for site, layer, part in ((SITES[0], 1, answers[:4]), (SITES[1], 2, answers[4:])):
        assert [answer.text for answer in part] == oracle.ask(reading[site], "Why?", layer, CAP)
        assert [(answer.site, answer.batch, answer.positions) for answer in part] == [
            (site, row, (position,)) for row in (0, 1) for position in (2, 6)
        ]
    assert answers[0].untrained is answers[0].black_box is None
    assert answers[0].as_dict()["question"] == "Why?"
    assert answers[0].tokens == (model.tokenizer.decode([int(zoo.tokens()[0, 2])]),)


def test_differences_have_the_layer_of_their_end(one):
    oracle, model = one
    span = "blocks.0.hook_resid_post -> blocks.2.hook_resid_post"
    values = read(model, zoo.tokens(), [span], -1)[span]
    assert [one.text for one in asked(oracle, model, span)] == oracle.ask(values, "Why?", 2, CAP)
    before = "blocks.2.hook_resid_pre"  # the output of block 1
    values = read(model, zoo.tokens(), [before], -1)[before]
    assert [one.text for one in asked(oracle, model, before)] == oracle.ask(values, "Why?", 1, CAP)


def test_positions_together(one):
    oracle, model = one
    answers = asked(oracle, model, SITES[0], slice(1, 4), together=True)
    values = read(model, zoo.tokens(), SITES[:1], slice(1, 4))[SITES[0]].unflatten(0, (2, 3))
    assert [answer.text for answer in answers] == oracle.ask(values, "Why?", 1, CAP)
    assert [answer.positions for answer in answers] == [(1, 2, 3)] * 2


def test_several_layers_at_once(several, one):
    model = one[1]
    sites = ["blocks.0.hook_resid_post", "blocks.2.hook_resid_post"]
    answers = asked(several, model, sites)
    reading = read(model, zoo.tokens(), sites, -1)
    states = torch.stack([reading[site] for site in sites], 1)[:, :, None]
    assert [answer.text for answer in answers] == several.ask(states, "Why?", asking=CAP)
    assert answers[0].site == ", ".join(sites)
    with pytest.raises(InputError, match=r"trained on layers \[0, 2\], not 2, 0"):
        asked(several, model, sites[::-1])


def test_controls(one):
    oracle, model = one
    tokens = torch.tensor([model.tokenizer.encode("A text.", add_special_tokens=False)])
    (answer,) = asked(oracle, model, SITES[0], tokens=tokens, controls=True)
    state = read(model, tokens, SITES[:1], -1)[SITES[0]]
    with oracle.untrained():
        assert answer.untrained == oracle.ask(state, "Why?", 1, CAP)[0]
    assert answer.black_box == oracle.ask_text(["A text."], "Why?", CAP)[0]
    assert answer.text == oracle.ask(state, "Why?", 1, CAP)[0]


def test_the_model_is_left_as_it_was(one):
    oracle, model = one
    before = model(zoo.tokens())
    asked(oracle, model, SITES)
    assert torch.equal(model(zoo.tokens()), before)
    assert not any(zoo.hook_counts(model).values())


def test_refusals(one, tmp_path):
    oracle, model = one
    for site, match in (
        ("hook_embed", "is of no block"), ("blocks.0.hook_resid_pre", "no block's output"),
        ("blocks.3.hook_resid_post", "trained on layers 1, 2, not 3"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=match):
            asked(oracle, model, site)
    with pytest.raises(InputError, match="nothing was read"):
        ActivationOracleAdapter(oracle, SITES).ask("Why?")


def test_another_width(one):
    model = zoo.bridge("gpt2")
    wide = ActivationOracle(load_causal_lm(one[0].base), one[0].tokenizer, one[0].protocol)
    wide.d_model = 64
    with pytest.raises(InputError, match="size 64, this model has d_model 32"):
        ActivationOracleAdapter(wide, SITES).hooks(model)
