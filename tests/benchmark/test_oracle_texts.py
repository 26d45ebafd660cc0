from tests.oracle.tiny import make_oracle
from tl_nla.benchmark.oracle_texts import readable
from tl_nla.model.families import context_length
from tl_nla.nla.prompts import reconstructor_ids


def test_only_texts_that_do_not_fit_are_cut():
    """Against the slow way: encode every text."""
    reconstructor = make_oracle(blocks=1).reconstructor
    limit = context_length(reconstructor.backbone)
    texts = [(word * count)[:size] for word in ("red ", "é€", "x", " the king") for count in (1, 40, 400)
             for size in (1, limit - 30, limit - 8, limit, 3 * limit)]  # fmt: skip
    lengths = [len(ids) for ids in reconstructor_ids(reconstructor.tokenizer, reconstructor.template, texts)]
    for text, length, kept in zip(texts, lengths, readable(reconstructor, texts), strict=True):
        assert (kept == text) == (length <= limit)
        assert text.startswith(kept)
        assert len(reconstructor_ids(reconstructor.tokenizer, reconstructor.template, [kept])[0]) <= limit
    assert any(length > limit for length in lengths)
