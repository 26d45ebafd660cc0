from dataclasses import dataclass

import pytest

from tl_nla._grouped import grouped, homes_of, regrouped


@dataclass(frozen=True)
class Rates:
    fast: float = 1.0
    slow: float = 0.1


@dataclass(frozen=True)
class Text:
    size: int = 3


class Training:
    @grouped(rates=Rates, text=Text)
    def __init__(self, model, rates=None, text=None):
        self.model, self.rates, self.text = model, rates or Rates(), text or Text()


class Child(Training):
    def __init__(self, other=0, **settings):
        super().__init__("m", **settings)


def test_groups_are_taken_without_a_warning():
    assert Training("m", rates=Rates(2.0)).rates == Rates(2.0)


def test_old_keywords_go_into_their_group_with_a_warning_that_names_it():
    with pytest.warns(DeprecationWarning, match=r"rates=Rates\(fast=..., slow=...\)"):
        found = Child(fast=3.0, slow=0.5)
    assert found.rates == Rates(3.0, 0.5)
    with pytest.warns(DeprecationWarning, match="text=Text"):
        assert Training("m", rates=Rates(slow=0.2), size=5).text == Text(5)
    with pytest.warns(DeprecationWarning, match="fast alone"):
        assert Training("m", rates=Rates(slow=0.2), fast=9.0).rates == Rates(9.0, 0.2)


@grouped(("fast", "size", "slow"), rates=Rates, text=Text)
def called(model, rates=None, text=None):
    return model, rates or Rates(), text or Text()


def test_old_positional_arguments_go_into_their_groups():
    with pytest.warns(DeprecationWarning, match="alone goes"):
        assert called("m", 2.0, 7) == ("m", Rates(2.0), Text(7))
    assert called("m", Rates(3.0), Text(1)) == ("m", Rates(3.0), Text(1))
    assert called("m", None) == ("m", Rates(), Text())


def test_unknown_keywords_are_refused_as_ever():
    with pytest.raises(TypeError, match="nothing"):
        Training("m", nothing=1)


def test_settings_of_files_are_regrouped():
    assert homes_of(Child) == {"fast": "rates", "slow": "rates", "size": "text"}
    with pytest.warns(DeprecationWarning, match="size of Child is now text.size"):
        found = regrouped(Child, {"size": 4, "rates": {"fast": 2.0}})
    assert found == {"rates": {"fast": 2.0}, "text": {"size": 4}}
    assert regrouped(dict, {"size": 4}) == {"size": 4}
