"""Answers that name at least so many words."""

import pytest
import torch

from tests.oracle.tiny import make_oracle, vectors
from tl_nla.errors import InputError
from tl_nla.oracle.naming import AtLeastWords
from tl_nla.oracle.texts import parse_words


@pytest.fixture(scope="module")
def reader():
    return make_oracle().verbalizer


def ids_of(reader, text):
    return reader.tokenizer.encode(text, add_special_tokens=False)


def favour(reader, *texts):
    """Scores that put the first token of each text before those of the next, and all before the rest."""
    scores = torch.zeros(1, len(reader.tokenizer))
    for place, text in enumerate(texts):
        scores[0, ids_of(reader, text)[-1]] = 10.0 - place
    return scores


def likeliest(reader, said, *texts):
    processor = AtLeastWords(reader.tokenizer, (reader.end_id,), 2)
    ids = torch.tensor([ids_of(reader, said)], dtype=torch.long).reshape(1, -1)
    return reader.tokenizer.decode(processor(ids, favour(reader, *texts)).argmax(-1))


def test_a_list_neither_ends_nor_repeats_itself_too_early(reader):
    assert likeliest(reader, "", " none", "red;", " red") == " red"
    assert likeliest(reader, " red", "red;", " red", " blue") == " blue"
    assert likeliest(reader, " red blue", "red;", " red") == ";"
    assert likeliest(reader, " red blue; ", " none", " red") == " none"
    end = favour(reader)
    end[0, reader.end_id] = 5.0
    processor = AtLeastWords(reader.tokenizer, (reader.end_id,), 1)
    assert processor(torch.empty(1, 0, dtype=torch.long), end).argmax() != reader.end_id
    assert processor(torch.tensor([ids_of(reader, " red")]), end).argmax() == reader.end_id


def test_rows_are_judged_one_by_one(reader):
    ids = torch.tensor([ids_of(reader, " red blue"), ids_of(reader, " red red")])
    scores = favour(reader, "red;").expand(2, -1)
    stop = ids_of(reader, "red;")[-1]
    assert AtLeastWords(reader.tokenizer, (reader.end_id,), 2)(ids, scores).argmax(-1).eq(stop).tolist() == [
        True,
        False,
    ]


def test_answers_name_as_many_words_and_plain_ones_are_as_before(reader):
    before, write = vectors(5)
    told = reader.generate(before, write, "sources", max_new_tokens=40, at_least=3)
    assert all(len(parse_words(text.split(";")[0])) >= 3 for text in told)
    plain = reader.generate(before, write, "sources", max_new_tokens=40)
    assert plain == reader.generate(before, write, "sources", max_new_tokens=40, at_least=0)
    single = reader.generate(before[2:3], write[2:3], "sources", max_new_tokens=40, at_least=3)
    assert single == told[2:3]


def test_refusals(reader):
    before, write = vectors(1)
    with pytest.raises(InputError, match="'skip' is no list"):
        reader.generate(before, write, "skip", at_least=2)
    with pytest.raises(InputError, match="at_least is -1"):
        reader.generate(before, write, "promotes", at_least=-1)
