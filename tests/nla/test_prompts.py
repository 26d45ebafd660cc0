import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tokenizers, zoo
from tests.nla.checkpoints import AR_TEMPLATE, AV_TEMPLATE, CHAR, byte_tokenizer
from tl_nla.errors import InputError
from tl_nla.model.control import control_ids
from tl_nla.nla import NLA, InjectionConfig, prompts
from tl_nla.nla.marker import choose_injection_char

TOKENIZER = byte_tokenizer()
WITH_BEGIN = byte_tokenizer(begin=True)
WITHOUT_CHAT = byte_tokenizer(begin=True, chat=False)


def test_injection_char_is_the_first_that_is_one_token():
    assert choose_injection_char(TOKENIZER) == CHAR


@pytest.mark.parametrize("slots", [1, 3])
def test_slots_stand_in_a_row(slots):
    prompt = prompts.build_verbalizer_prompt(TOKENIZER, AV_TEMPLATE, CHAR, slots)
    assert prompt.places == list(range(prompt.places[0], prompt.places[0] + slots))
    assert TOKENIZER.decode([prompt.ids[i] for i in prompt.places]) == CHAR * slots
    assert prompt.neighbours == (prompt.ids[prompt.places[0] - 1], prompt.ids[prompt.places[-1] + 1])
    assert TOKENIZER.decode(list(prompt.neighbours)) == "><"


def test_begin_token_is_not_doubled():
    prompt = prompts.build_verbalizer_prompt(WITH_BEGIN, AV_TEMPLATE, CHAR)
    assert prompt.ids.count(WITH_BEGIN.bos_token_id) == 1
    assert prompt.ids[0] == WITH_BEGIN.bos_token_id


def test_without_chat_template_the_prompt_is_raw():
    prompt = prompts.build_verbalizer_prompt(WITHOUT_CHAT, AV_TEMPLATE, CHAR)
    assert WITHOUT_CHAT.decode(prompt.ids) == "<bos>" + AV_TEMPLATE.replace("{injection_char}", CHAR)


def ends_texts(begin):
    """A tokenizer that puts an end token behind every text, with or without a begin token in front."""
    from tokenizers import processors

    tokenizer = tokenizers.adds_begin() if begin else tokenizers.adds_end()
    core = tokenizer.backend_tokenizer
    names = ("<|endoftext|>", "<|im_end|>") if begin else ("<|im_end|>",)
    special = [(name, core.token_to_id(name)) for name in names]
    single = "<|endoftext|> $A <|im_end|> <|im_end|>" if begin else "$A <|im_end|>"
    core.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    assert tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id
    return tokenizers.reloaded(tokenizer)


@pytest.mark.parametrize("begin", [False, True])
@pytest.mark.parametrize("chat", [False, True])
def test_no_end_token_stands_behind_prompts_and_targets(begin, chat):
    tokenizer = ends_texts(begin)
    if not chat:
        tokenizer.chat_template = None
    front = [tokenizer.bos_token_id] if begin else []
    prompt = prompts.build_verbalizer_prompt(tokenizer, AV_TEMPLATE, tokenizers.CHAR)
    assert prompt.ids[-1] not in control_ids(tokenizer)
    assert prompt.ids[: len(front)] == front
    texts = ["Hello", "", "so (and) on."]
    for row, text in zip(prompts.reconstructor_ids(tokenizer, AR_TEMPLATE, texts), texts, strict=True):
        plain = tokenizer.encode(AR_TEMPLATE.replace("{explanation}", text), add_special_tokens=False)
        assert row == [*front, *plain]
    assert (
        prompts.suffix_ids(tokenizer, AR_TEMPLATE)
        == tokenizer.encode(AR_TEMPLATE.split("{explanation}")[1], add_special_tokens=False)[1:]
    )
    source = zoo.hf_model("llama", vocab_size=len(tokenizer), max_position_embeddings=1024)
    nla = NLA.create(source, tokenizer, 1, InjectionConfig("constant", 1.0), injection_char=tokenizers.CHAR)
    assert nla.verbalizer.prompt.ids[-1] not in control_ids(tokenizer)
    ids, mask = nla.verbalizer.encode_responses(["Hello there."])
    assert ids[mask].tolist().count(nla.verbalizer.end_id) == 1, "the one that a response ends with"
    ids, mask = nla.reconstructor.encode(["Hello there."])
    assert not control_ids(tokenizer) & set(ids[mask].tolist()[len(front) :])


@pytest.mark.parametrize(
    ("template", "char", "match"),
    [
        (AV_TEMPLATE, "ab", "2 tokens"),
        (AV_TEMPLATE, "\u3210", "2 tokens"),
        ("nothing", CHAR, "exactly once"),
        ("{injection_char}{injection_char}.", CHAR, "exactly once"),
        (CHAR + " {injection_char} ", CHAR, "holds the injection character"),
        ("s {injection_char} s", "s", "holds the injection character"),
        ("The {injection_char} X", "a", "stands . times in the prompt"),  # the chat template holds the letter, too
    ],
)
def test_prompt_refusals(template, char, match):
    with pytest.raises(InputError, match=match):
        prompts.build_verbalizer_prompt(TOKENIZER, template, char)


@pytest.mark.parametrize("template", ["{injection_char} end", "start {injection_char}"])
def test_marker_at_the_edge(template):
    tokenizer = byte_tokenizer(chat=False)
    with pytest.raises(InputError, match="edge"):
        prompts.build_verbalizer_prompt(tokenizer, template, CHAR)


def test_reconstructor_prompt_is_raw_with_begin_token():
    (ids,) = prompts.reconstructor_ids(WITH_BEGIN, AR_TEMPLATE, ["Hello"])
    assert WITH_BEGIN.decode(ids) == "<bos>" + AR_TEMPLATE.replace("{explanation}", "Hello")


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_every_prompt_ends_in_the_suffix(text):
    suffix = prompts.suffix_ids(TOKENIZER, AR_TEMPLATE)
    (ids,) = prompts.reconstructor_ids(TOKENIZER, AR_TEMPLATE, [text + "."])  # '.<' is one token: merged over the edge
    assert ids[-len(suffix) :] == suffix


@pytest.mark.parametrize("template", ["no place", "{explanation}{explanation} <summary>", "{explanation}a"])
def test_suffix_refusals(template):
    with pytest.raises(InputError, match=r"exactly once|two are needed"):
        prompts.suffix_ids(TOKENIZER, template)


def test_a_template_that_ends_in_the_explanation_has_no_suffix():
    assert prompts.suffix_ids(TOKENIZER, "so: {explanation}") == []


@given(text=st.text(max_size=30), between=st.sampled_from(["", "\n"]))
def test_wrapped_text_is_extracted(text, between):
    wrapped = prompts.wrap_explanation(text, between)
    if prompts.CLOSE not in text:
        assert prompts.extract_explanation(wrapped) == text.strip()
    assert prompts.extract_explanation("before " + wrapped + " after") == prompts.extract_explanation(wrapped)


@pytest.mark.parametrize(
    "response", ["", "words", "<explanation> open", "closed </explanation>", "</explanation><explanation>"]
)
def test_nothing_to_extract(response):
    assert prompts.extract_explanation(response) is None


def test_first_closed_pair_is_taken():
    response = "<explanation>\none\ntwo\n</explanation> <explanation>three</explanation>"
    assert prompts.extract_explanation(response) == "one\ntwo"


def test_response_ends_as_the_chat_template_ends_an_answer():
    assert prompts.end_of_response(TOKENIZER) == TOKENIZER.convert_tokens_to_ids("</turn>")
    assert prompts.end_of_response(WITHOUT_CHAT) == WITHOUT_CHAT.eos_token_id
    bare = byte_tokenizer(chat=False)
    bare.eos_token = None
    with pytest.raises(InputError, match="end-of-text"):
        prompts.end_of_response(bare)


def test_texts_with_the_injection_character():
    prompts.refuse_injection_char(["fine", ""], CHAR)
    with pytest.raises(InputError, match=r"text 1 .*U\+320E"):
        prompts.refuse_injection_char(["fine", f"not {CHAR} fine"], CHAR)
