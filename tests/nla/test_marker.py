"""Pairs and oracles of tokenizers of every make: the marker is chosen inside the prompt, or added as a token."""

import pytest
import torch

from docs.studies.tiny.tokenizer import build_tokenizer
from tests import vocabularies, zoo
from tests.nla.checkpoints import AV_TEMPLATE, CHAR, byte_tokenizer, source_model
from tl_nla.errors import InputError
from tl_nla.nla import NLA, InjectionConfig, prompts
from tl_nla.nla.fresh import fresh_nla
from tl_nla.nla.marker import ADDED_CHAR, Marker, choose_injection_char, choose_marker, make_room
from tl_nla.oracle import DiffOracle

TEXTS = ["Tom found a kite.", "red"]


def model_for(tokenizer, family="llama", **settings):
    sizes = {"n_positions": 512, "n_ctx": 512} if family == "gpt2" else {"max_position_embeddings": 512}
    return zoo.hf_model(family, vocab_size=len(tokenizer), **{**sizes, **settings})


def shaken(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9))
    return module.eval()


def acts(rows=3):
    return torch.randn(rows, zoo.D_MODEL, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("slots", [(1,), (2, 6)])
@pytest.mark.parametrize("make", vocabularies.MAKES)
def test_a_marker_is_added_where_the_vocabulary_has_no_rare_one(make, slots):
    tokenizer = vocabularies.tokenizer(make)
    before = tokenizer.get_vocab()
    marker = choose_marker(tokenizer, [prompts.AV_TEMPLATE], slots)
    assert (marker.char, marker.added) == (ADDED_CHAR, (len(before),))
    for count in slots:
        prompt = prompts.build_verbalizer_prompt(marker.tokenizer, prompts.AV_TEMPLATE, marker.char, count)
        assert marker.tokenizer.convert_ids_to_tokens(prompt.ids).count(ADDED_CHAR) == count
        assert [prompt.ids[place] for place in prompt.places] == [len(before)] * count
    assert tokenizer.get_vocab() == before
    with pytest.raises(InputError, match=r"NLA.create and DiffOracle.create add one"):
        choose_injection_char(tokenizer)


@pytest.mark.parametrize("make", ["metaspace_bpe", "metaspace_unigram", "llama2"])
def test_a_space_in_front_of_the_character_alone_does_not_matter(make):
    tokenizer = vocabularies.train(make, CHAR)
    alone = tokenizer.convert_ids_to_tokens(tokenizer.encode(CHAR, add_special_tokens=False))
    assert alone in (["▁" + CHAR], ["▁", CHAR])
    marker = choose_marker(tokenizer, [prompts.AV_TEMPLATE], (1, 3))
    assert marker == Marker(CHAR, tokenizer)
    prompt = prompts.build_verbalizer_prompt(tokenizer, prompts.AV_TEMPLATE, CHAR, 3)
    assert tokenizer.convert_ids_to_tokens(prompt.ids[prompt.places[0] : prompt.places[-1] + 1]) == [CHAR] * 3
    assert choose_injection_char(tokenizer, slots=3) == CHAR


def test_a_named_marker_is_used_or_refused():
    tokenizer = vocabularies.tokenizer("metaspace_bpe")
    assert choose_marker(tokenizer, [prompts.AV_TEMPLATE], char="π") == Marker("π", tokenizer)
    with pytest.raises(InputError, match="no token of its own in the prompt"):
        choose_marker(tokenizer, [prompts.AV_TEMPLATE], char="㈎")
    with pytest.raises(InputError, match="exactly once"):
        choose_marker(tokenizer, ["no place"])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("make", vocabularies.MAKES)
def test_a_pair_of_every_make(make, family, tmp_path):
    tokenizer = vocabularies.tokenizer(make)
    model, size = model_for(tokenizer, family), len(tokenizer)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    nla = NLA.create(model, tokenizer, 1, InjectionConfig("affine", 2.0, 2))
    rows = nla.verbalizer.prompt.token_id + 1
    for part in (nla.verbalizer.model, nla.reconstructor.backbone):
        table = part.get_input_embeddings().weight
        assert len(table) == part.config.vocab_size == rows
        torch.testing.assert_close(table[size:], table[:size].mean(0).expand(rows - size, -1))
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    shaken(nla).save_pretrained(tmp_path)
    again = NLA.from_pretrained(tmp_path / "av", tmp_path / "ar")
    assert again.verbalizer.prompt == nla.verbalizer.prompt
    assert again.verbalize(acts(), max_new_tokens=4) == nla.verbalize(acts(), max_new_tokens=4)
    torch.testing.assert_close(again.reconstruct(TEXTS), nla.reconstruct(TEXTS), rtol=0, atol=0)


@pytest.mark.parametrize("make", vocabularies.MAKES)
def test_an_oracle_of_every_make(make, tmp_path):
    tokenizer = vocabularies.tokenizer(make)
    oracle = shaken(DiffOracle.create(model_for(tokenizer), tokenizer))
    oracle.fit(acts(8), acts(8))
    assert torch.isfinite(oracle.verbalizer.loss(acts(2), acts(2), ["explain", "skip"], TEXTS))
    oracle.save_pretrained(tmp_path / "oracle")
    again = DiffOracle.from_pretrained(tmp_path / "oracle")
    one, two = (made.explain(acts(), acts(), max_new_tokens=4) for made in (oracle, again))
    assert one == two
    torch.testing.assert_close(again.reconstruct(TEXTS), oracle.reconstruct(TEXTS), rtol=0, atol=0)


def test_tags_that_a_vocabulary_cannot_write_are_added():
    tokenizer = vocabularies.tokenizer("word_level")
    verbalizer = NLA.create(model_for(tokenizer), tokenizer, 1, InjectionConfig("sqrt_d")).verbalizer
    ids, mask = verbalizer.encode_responses(["found a the"])
    text = verbalizer.tokenizer.decode(ids[0][mask[0]])
    assert prompts.extract_explanation(text) == "found a the"
    assert tokenizer.unk_token_id not in verbalizer.stop_ids  # the close tag was the unknown token before


def test_the_short_templates_are_for_vocabularies_with_the_tags():
    assert prompts.has_tags(build_tokenizer())
    assert not any(prompts.has_tags(vocabularies.tokenizer(make)) for make in vocabularies.MAKES)
    larger = vocabularies.train("metaspace_bpe")
    larger.add_tokens(["<concept>", "</concept>", "<text>", "</text>", "<summary>", prompts.OPEN, prompts.CLOSE])
    assert prompts.has_tags(larger)


def test_embeddings_that_are_there_already_are_used():
    """Models are often padded to more rows than the tokenizer has tokens."""
    tokenizer = vocabularies.tokenizer("llama2")
    model = model_for(range(len(tokenizer) + 8), tie_word_embeddings=False)
    nla = NLA.create(model, tokenizer, 1, InjectionConfig("sqrt_d"))
    made, size = nla.verbalizer.model, len(tokenizer)
    assert made.config.vocab_size == size + 8
    for layer in (made.get_input_embeddings(), made.get_output_embeddings()):
        torch.testing.assert_close(layer.weight[size], layer.weight[:size].mean(0))
    unchanged = model.get_output_embeddings().weight
    assert torch.equal(made.get_output_embeddings().weight[size + 1 :], unchanged[size + 1 :])


def test_nothing_is_resized_without_a_new_token():
    model = source_model("llama")
    before = model.get_input_embeddings().weight.clone()
    make_room(model, Marker(CHAR, byte_tokenizer()))
    assert torch.equal(model.get_input_embeddings().weight, before)


@pytest.mark.parametrize("make", ["metaspace_bpe", "metaspace_unigram", "llama2", "byte_bpe"])
@pytest.mark.parametrize("end", ["a", "a.", "1", "it!", '"'])
def test_prompts_end_in_the_suffix(make, end):
    tokenizer = vocabularies.tokenizer(make)
    suffix = prompts.suffix_ids(tokenizer, prompts.AR_TEMPLATE)
    (ids,) = prompts.reconstructor_ids(tokenizer, prompts.AR_TEMPLATE, [f"Tom was {end}"])
    assert ids[-len(suffix) :] == suffix
    assert len(suffix) > 8


def test_a_fresh_pair_is_refused_before_the_model_is_loaded(tmp_path):
    vocabularies.tokenizer("llama2").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="'㈎' is no token of its own"):
        fresh_nla(tmp_path, 0, "affine", injection_char="㈎")


def test_prompts_longer_than_the_context_are_refused():
    tokenizer = vocabularies.tokenizer("byte_bpe")
    short = model_for(tokenizer, max_position_embeddings=64)
    with pytest.raises(InputError, match=r"prompt has .* context is 64; give a shorter template"):
        NLA.create(short, tokenizer, 1, InjectionConfig("sqrt_d"))
    with pytest.raises(InputError, match=r"prompt has .* context is 64; give a shorter template"):
        DiffOracle.create(short, tokenizer)
    template = "<concept>{injection_char}</concept>{question}"
    with pytest.raises(InputError, match="context is 8; give a shorter template"):
        DiffOracle.create(model_for(tokenizer, max_position_embeddings=8), tokenizer, template=template)


def test_texts_longer_than_the_context_are_refused():
    tokenizer = vocabularies.tokenizer("byte_bpe")
    model = model_for(tokenizer)
    nla = NLA.create(model, tokenizer, 1, InjectionConfig("sqrt_d"), AV_TEMPLATE)
    with pytest.raises(InputError, match=r"'xxx.* tokens, and \d+ fit behind the prompt .* of 512; shorten it"):
        nla.verbalizer.encode_responses(["short", "x" * 600])
    oracle = DiffOracle.create(model, tokenizer)
    with pytest.raises(InputError, match=r"'xxx.* tokens, and \d+ fit behind the prompt .* of 512; shorten it"):
        oracle.verbalizer.encode_responses(["short", "x" * 600])


@pytest.mark.parametrize("template", ["{{ raise_exception('no user') }}", "{{ messages[5].content }}", "{% if %}"])
def test_chat_templates_that_fail_are_refused(template):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(InputError, match="chat template cannot render a plain message"):
        prompts.build_verbalizer_prompt(tokenizer, AV_TEMPLATE, CHAR)
    with pytest.raises(InputError, match="chat template cannot render a plain message"):
        prompts.end_of_response(tokenizer)


def test_chat_templates_that_drop_the_answer_leave_the_end_of_text():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}{% endfor %}"
    assert prompts.end_of_response(tokenizer) == tokenizer.eos_token_id


def test_a_reader_refuses_a_marker_that_labels_may_name():
    tokenizer = vocabularies.tokenizer("metaspace_bpe")
    with pytest.raises(InputError, match="labels may name the injection character 'π'"):
        DiffOracle.create(model_for(tokenizer), tokenizer, injection_char="π")
    oracle = DiffOracle.create(model_for(range(len(build_tokenizer()))), build_tokenizer(), injection_char=CHAR)
    assert oracle.verbalizer.char == CHAR
