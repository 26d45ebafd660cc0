"""States as a data module: split by document, captured once, the same rows for the control."""

import pytest
import torch

from lightning_modules.data.activations import ActivationDataModule, collate, explainer_of
from tests import zoo
from tests.lightning_modules.grouping import made
from tl_nla.data import Document, split_documents
from tl_nla.errors import InputError
from tl_nla.explainers import explain_mechanically
from tl_nla.metrics import normalise
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.storyworld.explained import WorldExplainer
from tl_nla.storyworld.tiny import embedded_grounding

SITE = "blocks.1.hook_resid_post"
DOCUMENTS = [
    Document(f"d/{n}", " ".join(f"w{i}" for i in zoo.tokens(1, 8, seed=n)[0].tolist())) for n in range(16)
]  # fmt: skip


@pytest.fixture(scope="module")
def data(get_model):
    module = made(
        ActivationDataModule, get_model("bridge", "llama"), zoo.tokenizer(), SITE, source=DOCUMENTS, documents=16,
        positions_per_document=3, batch_size=4, heldout=0.3, seed=2,
    )  # fmt: skip
    module.setup()
    return module


def test_documents_are_on_one_side_only(data):
    train, held = split_documents(DOCUMENTS, 0.3)
    assert (len(data.train_states), len(data.heldout_states)) == (3 * len(train), 3 * len(held))
    assert not {document.id for document in train} & {document.id for document in held}


def test_rows_are_the_states_of_the_model(data, get_model):
    model, (_, held) = get_model("bridge", "llama"), split_documents(DOCUMENTS, 0.3)
    tokenizer = zoo.tokenizer()
    ids = [tokenizer.bos_token_id, *tokenizer.encode(held[0].text, add_special_tokens=False)]
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor([ids]))
    places = data.heldout_states.position[data.heldout_states.document == 0]
    torch.testing.assert_close(data.heldout_states.acts[: len(places)], cache[SITE][0, places], atol=1e-5, rtol=1e-5)


def test_the_mean_is_that_of_the_training_rows(data):
    expected = normalise(data.train_states.acts).double().mean(0)
    torch.testing.assert_close(data.mean.double(), expected, atol=1e-6, rtol=0)


def test_batches_hold_rows_with_their_own_texts(data):
    texts = {tuple(act.tolist()): text for act, text in zip(data.train_states.acts, data.train_states.explanations,
                                                           strict=True)}  # fmt: skip
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_states) // 4
    for batch in batches:
        assert [texts[tuple(act.tolist())] for act in batch["acts"]] == batch["texts"]
    rest = [text for batch in data.val_dataloader() for text in batch["texts"]]
    assert rest == data.heldout_states.explanations
    acts, shown = data.heldout_rows(2)
    assert collate(list(zip(acts, shown, strict=True)))["texts"] == rest[:2]


def test_the_control_reads_contexts_of_the_same_rows(data):
    other = data.on_contexts()
    assert other.train_states.explanations == data.train_states.contexts
    assert torch.equal(other.train_states.acts, data.train_states.acts)
    assert data.train_states.explanations != data.train_states.contexts


def test_probes_belong_to_the_embedded_site():
    assert explainer_of("tiny", "blocks.2.hook_resid_post").grounding is not None
    assert explainer_of("tiny", "blocks.1.hook_resid_post").grounding is None
    given = embedded_grounding()
    assert explainer_of("other", SITE, given).grounding is given
    assert explainer_of("other", SITE, source="world") == WorldExplainer()
    assert explainer_of("other", SITE, source="texts.txt") is explain_mechanically


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seed": HELD_OUT_SEED}, "the stream of held-out stories"),
        ({"source": []}, "holds no documents"),
        ({"source": "nowhere.txt"}, "nowhere.txt"),
    ],
)
def test_refusals(settings, words):
    with pytest.raises(InputError, match=words):
        made(ActivationDataModule, **settings)


def test_nothing_is_served_before_setup():
    module = made(ActivationDataModule, source=DOCUMENTS)
    for ask in (lambda: module.mean, module.train_dataloader, module.on_contexts, lambda: module.heldout_rows(1)):
        with pytest.raises(InputError, match="call setup"):
            ask()


def test_documents_are_drawn_from_the_whole_source_and_cut(get_model):
    module = made(
        ActivationDataModule, get_model("bridge", "llama"), zoo.tokenizer(), SITE, source=DOCUMENTS, documents=6,
        positions_per_document=8, heldout=0.3, longest=4, shuffled=True,
    )  # fmt: skip
    chosen = module.load_documents()
    assert len(chosen) == 6
    assert chosen != DOCUMENTS[:6]
    assert {one.id for one in chosen} <= {one.id for one in DOCUMENTS}
    module.source = DOCUMENTS[::-1]
    assert module.load_documents() == chosen, "the order of the source does not matter"
    module.setup()
    assert max(module.train_states.position.tolist()) == 3, "nothing behind the fourth token is read"
