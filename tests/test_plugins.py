"""Embedded models are found by their name, and nothing else is."""

import pytest

from tl_nla import plugins
from tl_nla.errors import InputError


def test_the_story_world_is_found_by_name():
    found = plugins.embedded("tiny")
    assert found is plugins.world("world")
    assert [document.id for document in found.documents(2, 5, 1)] == ["world/5/1", "world/5/2"]
    assert plugins.part("tiny", "av").is_dir()
    for other in ("gpt2", None, object(), ["tiny"]):
        assert plugins.embedded(other) is None
        assert plugins.world(other) is None


def test_others_can_be_made_known(monkeypatch):
    monkeypatch.setattr(plugins, "_MODULES", dict(plugins._MODULES))
    monkeypatch.setattr(plugins, "_SOURCES", dict(plugins._SOURCES))
    plugins.register("twin", "tl_nla.storyworld.plugin", "stories")
    assert plugins.embedded("twin") is plugins.world("stories") is plugins.embedded("tiny")
    assert plugins.source_names() == ["stories", "world"]


def test_what_is_missing_is_said():
    with pytest.raises(InputError, match="no embedded model 'gpt2'; there are: tiny"):
        plugins.part("gpt2", "av")
    with pytest.raises(InputError, match=r"embedded weights are missing from .*nothing"):
        plugins.part("tiny", "nothing")
