"""The sidecar: both schemas and vocabularies, its scales, the round trip, and what is refused."""

import dataclasses
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

SCHEMA_1 = {"d_model": 16, "role": "critic", "schema_version": 1, "critic": {"num_hidden_layers": 3}}
SCHEMA_2 = {
    "kind": "nla_model", "schema_version": 2, "role": "av", "d_model": 16, "extraction_layer_index": 2,
    "extraction": {"injection_scale": 150, "mse_scale": None},
    "tokens": {
        "injection_char": "㈎", "injection_token_id": 9, "injection_left_neighbor_id": 5,
        "injection_right_neighbor_id": 6, "critic_suffix_ids": [7, 8],
    },
    "prompt_templates": {"av": "<c>{injection_char}</c>", "ar": "<t>{explanation}</t> <s>"},
    "critic": {"extraction_layer_index": 2},
}  # fmt: skip
whole = st.integers(0, 10**6)
words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs", "So"]), max_size=20)
number = st.floats(1e-6, 1e9)


def parse(changes=None, base=SCHEMA_2, role="av"):
    from tl_nla.nla.formats.sidecar import parse_meta

    return parse_meta({**base, **(changes or {})}, role)


def write(folder, text):
    (folder / "nla_meta.yaml").write_text(text, encoding="utf-8")
    return folder


def test_schema_2():
    meta = parse()
    assert (meta.role, meta.layer, meta.d_model, meta.schema) == ("av", 2, 16, 2)
    assert (meta.injection_char, meta.injection_token_id, meta.neighbours) == ("㈎", 9, (5, 6))
    assert meta.suffix_ids == (7, 8)
    assert meta.injection_scale == 150
    assert meta.mse_scale == 4  # sqrt(d_model) where the file does not say
    assert meta.av_template == "<c>{injection_char}</c>"
    assert meta.ar_template == "<t>{explanation}</t> <s>"


def test_schema_1_counts_blocks():
    meta = parse(base=SCHEMA_1, role="ar")
    assert (meta.role, meta.layer, meta.blocks, meta.schema, meta.mse_scale) == ("ar", None, 3, 1, 4)


@pytest.mark.parametrize(("said", "role"), [("av", "av"), ("actor", "av"), ("ar", "ar"), ("critic", "ar")])
def test_roles_in_both_vocabularies(said, role):
    assert parse({"role": said}).role == role
    assert parse({"role": None}, role=role).role == role


def test_how_answers_are_read_is_written_and_read_back():
    from tl_nla.nla.answers import AnswerRule
    from tl_nla.nla.formats.protocol import Protocol
    from tl_nla.nla.formats.sidecar import meta_to_yaml, parse_meta

    for answers in (AnswerRule("lines", 2), AnswerRule("all"), AnswerRule("bullets")):
        meta = dataclasses.replace(parse(), protocol=Protocol(answers=answers))
        again = parse_meta(yaml.safe_load(meta_to_yaml(meta)), "av").protocol
        assert again is not None
        assert again.answers == answers


def test_templates_in_both_vocabularies():
    old = {"actor": "a{injection_char}a", "critic": "b{explanation}b"}
    new = {"av": "c{injection_char}c", "ar": "d{explanation}d"}
    assert parse({"prompt_templates": old}).av_template == old["actor"]
    both = parse({"prompt_templates": {**old, **new}})
    assert (both.av_template, both.ar_template) == (new["av"], new["ar"])


@pytest.mark.parametrize(
    ("said", "scale"),
    [(None, "raw"), ("raw", "raw"), ("none", "raw"), ("sqrt_d_model", 4.0), (150, 150.0), (0.5, 0.5), ("8e4", 8e4)],
)
def test_scales(said, scale):
    assert parse({"extraction": {"injection_scale": said}}).injection_scale == scale


def test_absent_scale_is_not_raw():
    assert parse({"extraction": {}}).injection_scale is None


@pytest.mark.parametrize("said", [0, -1, True, math.nan, math.inf, "big", [1], 10**400])
@pytest.mark.parametrize("key", ["injection_scale", "mse_scale"])
def test_bad_scales(key, said):
    from tl_nla.errors import InputError

    with pytest.raises(InputError, match=key):
        parse({"extraction": {key: said}})


@given(
    role=st.sampled_from(["av", "ar"]), d_model=st.integers(1, 10**5), layer=st.none() | whole,
    before=words, after=words, char=st.none() | words.filter(bool), token=st.none() | whole,
    neighbours=st.none() | st.tuples(whole, whole),
    suffix=st.none() | st.lists(whole, max_size=5).map(tuple),
    scale=st.sampled_from([None, "raw"]) | number, mse=number, base=words,
    injection=st.sampled_from([{}, {"kind": "additive", "slots": 3}]),
)  # fmt: skip
def test_round_trip(role, d_model, layer, before, after, char, token, neighbours, suffix, scale, mse, base, injection):
    from tl_nla.nla.formats.sidecar import Meta, meta_to_yaml, parse_meta

    meta = Meta(
        role=role, d_model=d_model, layer=layer, av_template=before + "{injection_char}" + after,
        ar_template=before + "{explanation}" + after, injection_char=char, injection_token_id=token,
        neighbours=neighbours, suffix_ids=suffix, injection_scale=scale, mse_scale=mse, injection=injection,
        base_checkpoint=base,
    )  # fmt: skip
    text = meta_to_yaml(meta)
    assert parse_meta(yaml.safe_load(text), role) == meta
    assert meta_to_yaml(dataclasses.replace(meta)) == text


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"injection_char": "x"}, "unknown key .*'injection_char'"),
        ({"tokens": {"injection_cher": "x"}}, "nearest: injection_char"),
        ({1: 2}, "unknown key"),
        ({"kind": "nla_dataset"}, "unknown key"),
        ({"schema_version": 3}, r"readable are \(1, 2\)"),
        ({"schema_version": True}, "schema_version"),
        ({"schema_version": [2]}, "schema_version"),
        ({"role": "actr"}, "nearest: actor"),
        ({"role": ["av"]}, "unknown role"),
        ({"d_model": None}, "d_model"),
        ({"d_model": 0}, "d_model"),
        ({"d_model": "16"}, "whole number"),
        ({"d_model": True}, "whole number"),
        ({"extraction_layer_index": -1}, "whole number"),
        ({"extraction_layer_index": 3}, "several layers"),
        ({"extraction": [1]}, "extraction is a list"),
        ({"tokens": {"critic_suffix_ids": "78"}}, "list of token ids"),
        ({"tokens": {"critic_suffix_ids": [True, -1]}}, "list of token ids"),
        ({"tokens": {"injection_char": ""}}, "must be a text"),
        ({"prompt_templates": {"av": "none"}}, "0 times"),
        ({"prompt_templates": {"ar": "{explanation}{explanation}"}}, "2 times"),
    ],
)
def test_refused(changes, match):
    from tl_nla.errors import InputError

    with pytest.raises(InputError, match=match):
        parse(changes)


@pytest.mark.parametrize(
    "text", ["a: [", "a: b: c", "\tx", "d_model: !!python/name:os.system", "created_at: 2024-13-45"]
)
def test_not_yaml(tmp_path, text):
    from tl_nla.errors import InputError
    from tl_nla.nla import read_meta

    with pytest.raises(InputError, match="not valid YAML") as caught:
        read_meta(write(tmp_path, text), "av")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1", "word"])
def test_no_mapping(tmp_path, text):
    from tl_nla.errors import InputError
    from tl_nla.nla import read_meta

    with pytest.raises(InputError, match="must be a mapping"):
        read_meta(write(tmp_path, text), "av")


def test_missing_unreadable_and_swapped(tmp_path):
    from tl_nla.errors import InputError
    from tl_nla.nla import read_meta

    with pytest.raises(InputError, match=r"no nla_meta\.yaml"):
        read_meta(tmp_path, "av")
    with pytest.raises(InputError, match="swapped folders"):
        read_meta(write(tmp_path, yaml.safe_dump(SCHEMA_2)), "ar")
    (tmp_path / "nla_meta.yaml").unlink()
    (tmp_path / "nla_meta.yaml").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_meta(tmp_path, "av")
