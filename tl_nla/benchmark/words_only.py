"""Words-only recovery: how much of the output is left when every write is rebuilt from its explanation alone.

The last residual state of a position is its embedding, plus the writes of all heads and MLPs, plus constants (biases).
Here each write is read back from words, the embedding and the constants are exact, and the state that these sum to goes
through the model's own final norm and unembedding. Layer by layer: writes of the layers told so far from their words,
those of the later layers at their training mean.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.metrics.probabilities import log_probabilities
from tl_nla.model.facts import facts_of
from tl_nla.model.readout import final_norm, unembedded
from tl_nla.model.sites import Site
from tl_nla.model.text import TextEncoder, TextTokens
from tl_nla.oracle.capture import CaptureConfig, LabelledWrites, capture_writes
from tl_nla.oracle.labels import Vocabulary
from tl_nla.oracle.texts import component_words


@dataclass(frozen=True)
class WrittenResiduals:
    """Last residual states of positions, taken apart.

    Attributes:
        sites: texts of the writes: all heads and the MLP of every layer.
        layers: layer of each.
        embed: the state before the first block.
        writes: what each site writes.
        rest: what no site writes: the attention's output biases.
        before: the states that the writes are added to.
        texts: for each position the label of each site's write.
        document: index of each position's document.
        position: its column, the begin token at 0.
    """

    sites: tuple[str, ...]
    layers: Int[Tensor, " site"]
    embed: Float[Tensor, "n d_model"]
    writes: Float[Tensor, "n site d_model"]
    rest: Float[Tensor, "n d_model"]
    before: Float[Tensor, "n site d_model"]
    texts: list[list[str]]
    document: Int[Tensor, " n"]
    position: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.embed)

    @property
    def final(self) -> Float[Tensor, "n d_model"]:
        """The last residual state."""
        return self.embed + self.rest + self.writes.sum(1)

    @property
    def mean(self) -> Float[Tensor, "site d_model"]:
        """Mean write of each site."""
        return self.writes.double().mean(0).float()


def all_writes(model: Any) -> tuple[list[str], str]:
    """The sites of all heads and MLPs, and the span over all blocks, which they sum to."""
    sites, layers = [], int(model.cfg.n_layers)
    for layer in range(layers):
        sites += [f"blocks.{layer}.attn.head.{head}" for head in range(int(model.cfg.n_heads))]
        sites.append(f"blocks.{layer}.mlp")
    return sites, f"blocks.0.hook_resid_pre -> blocks.{layers - 1}.hook_resid_post"


def capture_residuals(
    model: Any, tokenizer: Any, documents: Sequence[Any], config: CaptureConfig | None = None, reference: Any = None,
    vocabulary: Vocabulary | None = None,
) -> tuple[WrittenResiduals, Any]:  # fmt: skip
    """Take the last residual states of drawn positions apart, with every write's label.

    Args:
        model: the TransformerLens model.
        tokenizer: its tokenizer.
        documents: texts.
        config: what is drawn and told; skips are not computed.
        reference: of the strengths told; measured on these writes when ``None``.
        vocabulary: the tokens that labels may name; every printable one when ``None``.

    Returns:
        The residuals, and the reference.
    """
    sites, span = all_writes(model)
    config = config or CaptureConfig(skips=False)
    captured = capture_writes(model, tokenizer, documents, [*sites, span], config, vocabulary)
    own = captured.select(torch.nonzero(captured.site != len(sites)).flatten())
    reference = reference or own.reference()
    return _apart(captured.with_strength(reference), tuple(sites)), reference


def _apart(captured: LabelledWrites, sites: tuple[str, ...]) -> WrittenResiduals:
    # Within each batch the rows of all sites are the same positions in the same order.
    rows = [torch.nonzero(captured.site == number).flatten() for number in range(len(sites) + 1)]
    if len({len(group) for group in rows}) != 1:
        raise InputError("the capture does not hold every write of every position")
    *own, whole = rows
    writes = torch.stack([captured.write[group] for group in own], 1)
    texts = [[captured.text(int(group[row])) for group in own] for row in range(len(whole))]
    return WrittenResiduals(
        sites, torch.tensor([int(Site.parse(site).layer or 0) for site in sites]), captured.before[whole], writes,
        captured.write[whole] - writes.sum(1), torch.stack([captured.before[group] for group in own], 1), texts,
        captured.document[whole], captured.position[whole],
    )  # fmt: skip


def context_texts(
    tokenizer: Any, documents: Sequence[Any], residuals: WrittenResiduals, context: int, model: Any = None,
    prepend_bos: bool | None = None,
) -> list[list[str]]:  # fmt: skip
    """The ``cat`` texts: who writes, and then the last words before the position, as many tokens as the label has."""
    encode = TextEncoder(tokenizer, model, prepend_bos)
    encoded: dict[int, TextTokens] = {}
    listed = []
    for row in range(len(residuals)):
        number = int(residuals.document[row])
        if number not in encoded:
            encoded[number] = encode(documents[number].text).cut(context)
        seen = encoded[number].ids[encoded[number].added : int(residuals.position[row]) + 1]
        texts = []
        for site, text in zip(residuals.sites, residuals.texts[row], strict=True):
            who = component_words(site) or site
            budget = len(tokenizer.encode(text, add_special_tokens=False))
            budget = max(1, budget - len(tokenizer.encode(who, add_special_tokens=False)))
            texts.append(f"{who} {tokenizer.decode(seen[-budget:]).strip()}")
        listed.append(texts)
    return listed


def output_logits(model: Any, state: Float[Tensor, "n d_model"]) -> Float[Tensor, "n vocab"]:
    """Logits of last residual states; gradients pass to the states and never to the model's weights."""
    readout = facts_of(model).readout
    like = next(model.ln_final.parameters(), state)
    with _frozen(model.ln_final, model.unembed):
        logits = unembedded(model, final_norm(model, state[None].to(like)))[0].float() * readout.multiplier
    return logits if readout.cap is None else readout.cap * torch.tanh(logits / readout.cap)


@contextmanager
def _frozen(*modules: Any) -> Iterator[None]:
    """Build no graph to these modules' weights; what needed gradients before needs them again afterwards."""
    trained = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def divergence(clean: Float[Tensor, "n vocab"], changed: Float[Tensor, "n vocab"]) -> Float[Tensor, " n"]:
    """KL(clean || changed) in nats, from logits."""
    log_p = log_probabilities(clean)
    return (log_p.exp() * (log_p - log_probabilities(changed))).sum(-1)


def rebuild(reconstructor: Any, texts: list[list[str]], batch_size: int = 256) -> Float[Tensor, "n site d_model"]:
    """Writes of all positions and sites read back from texts, each different text once."""
    flat = [text for row in texts for text in row]
    distinct = sorted(set(flat), key=lambda text: (len(text), text))  # rows of one length need little padding
    vectors = reconstructor.reconstruct(distinct, batch_size)
    place = {text: number for number, text in enumerate(distinct)}
    index = torch.tensor([place[text] for text in flat])
    return vectors[index].unflatten(0, (len(texts), -1))
