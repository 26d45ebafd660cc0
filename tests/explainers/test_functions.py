from typing import get_args

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from lightning_modules.data.asked_writes import AskedConfig
from lightning_modules.data.settings import WordsConfig
from tests.explainers.moments import moments
from tl_nla.errors import InputError
from tl_nla.explainers import ColumnExplainer, as_explainer, each_moment, explain_mechanically
from tl_nla.explainers.base import explain_documents
from tl_nla.explainers.functions import NAMED, Named
from tl_nla.explainers.prompting import PromptTemplates


@pytest.mark.parametrize("kind", [WordsConfig, AskedConfig])
def test_a_run_writes_down_the_name_that_it_was_given(kind):
    assert get_args(Named) == tuple(NAMED)
    parser = ArgumentParser()
    parser.add_argument("--words", type=kind)
    for name in NAMED:
        given = parser.parse_args(["--words", f"{{explainer: {name}}}"])
        assert given.words.explainer == name
        assert yaml.safe_load(parser.dump(given))["words"]["explainer"] == name


def test_names_and_functions():
    assert as_explainer("mechanical") is explain_mechanically
    assert isinstance(as_explainer("column"), ColumnExplainer)
    assert as_explainer(explain_mechanically) is explain_mechanically
    said = as_explainer(lambda moment: f"ends in {moment.recent}")
    assert said("text", moments(2)) == [("ends in number 0", None), ("ends in number 1", None)]
    with pytest.raises(InputError, match=r"'mechanic'.*mechanical"):
        as_explainer("mechanic")
    with pytest.raises(InputError, match="explainer is 3"):
        as_explainer(3)


@pytest.mark.parametrize("given", ["", "  ", None, 4])
def test_what_is_no_text_is_refused(given):
    with pytest.raises(InputError, match="must give a text for every moment"):
        each_moment(lambda moment: given)("text", moments(1))


def test_moments_of_many_documents_are_explained_together_where_that_is_possible():
    class Together:
        calls = 0

        def __call__(self, text, moments):
            raise AssertionError("one by one")

        def explain_all(self, given):
            self.calls += 1
            return [moment.recent for moment in given]

    together = Together()
    documents = [("a", moments(2)), ("b", []), ("c", moments(3))]
    found = explain_documents(together, documents)
    assert together.calls == 1
    assert found == explain_documents(each_moment(lambda moment: moment.recent), documents)


def test_prompts_show_the_text_and_leave_its_braces_alone():
    templates = PromptTemplates("{text} | {guesses} | {site}", "{label} | {recent}", longest=8)
    (moment,) = moments(1)
    assert templates.prompt(moment) == "number 0 | 'one' (90%), 'two' (5%) | blocks.1"
    (write,) = moments(1, write=torch.ones(2), label="It promotes {text}.")
    assert templates.prompt(write) == "It promotes {text}. | number 0"
    with pytest.raises(InputError, match="the template for a write shows no text"):
        PromptTemplates(write="nothing")
    with pytest.raises(InputError, match="longest is 0"):
        PromptTemplates(longest=0)
