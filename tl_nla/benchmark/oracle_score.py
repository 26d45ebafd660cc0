"""Scoring a diff oracle on held-out writes: reconstruction of every arm, and answers to the questions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.oracle_rows import UNREFINED, OracleRows
from tl_nla.benchmark.oracle_texts import readable, shuffled_rows
from tl_nla.metrics import normalise, squared_deviations, squared_errors
from tl_nla.metrics.ridge import fit_ridge
from tl_nla.model.sites import Site
from tl_nla.oracle import DiffOracle, LabelledWrites, parse_label
from tl_nla.oracle.labels import LOCAL, relative_norm
from tl_nla.oracle.questions import Answer

MAX_NEW_TOKENS = 90
NAMED_WORDS = 4
"""Promoted and suppressed words that the reader is asked to name at least; as many are counted."""
NAMED_SOURCES = 3
"""Distant sources that the reader is asked to name; as many are counted."""
_PROBE_DECAY = 1e-2


def component_means(train: LabelledWrites, sites: Sequence[str]) -> Float[Tensor, "components d_model"]:
    """Mean of the normalised training writes over all rows, then for each site (zero where none was trained on)."""
    unit = normalise(train.write).double()
    means = [unit.mean(0)]
    for site in sites:
        rows = train.site == train.sites.index(site) if site in train.sites else torch.zeros(len(train)).bool()
        means.append(unit[rows].mean(0) if rows.any() else torch.zeros_like(means[0]))
    return torch.stack(means).float()


def start_rows(held: LabelledWrites, means: Tensor, untrained: Sequence[str], seed: int) -> OracleRows:
    """Row scores with the arms that need no training: ``mean`` and ``component``."""
    rows = OracleRows(seed, held.sites, tuple(untrained), means, held.site, held.document, held.position,
                      squared_deviations(held.write, means[0]))  # fmt: skip
    truth = normalise(held.write.double())
    own = torch.where(means[1:].abs().sum(1, keepdim=True) > 0, means[1:], means[0])
    rows.errors["mean"] = rows.deviation
    rows.errors["component"] = (truth - own[held.site].double()).square().sum(-1)
    return rows


def score_words(rows: OracleRows, oracle: DiffOracle, held: LabelledWrites) -> list[str]:
    """Add the arms ``explanation``, ``gold``, ``shuffled`` and ``empty``.

    Returns:
        The explanations.
    """
    reader = oracle.reconstructor
    texts = readable(reader, oracle.explain(held.write, held.before, max_new_tokens=MAX_NEW_TOKENS))
    labels = readable(reader, [held.text(row) for row in range(len(held))])
    other = [texts[row] for row in shuffled_rows(held, rows.seed).tolist()]
    score_readers(
        rows, dict.fromkeys(("explanation", "gold", "shuffled"), reader),
        {"explanation": texts, "gold": labels, "shuffled": other}, held,
    )  # fmt: skip
    rows.errors["empty"] = squared_errors(oracle.reconstruct([""]).expand(len(held), -1), held.write)
    return texts


def score_sum_of_heads(rows: OracleRows, oracle: DiffOracle, held: LabelledWrites, texts: Sequence[str]) -> None:
    """Add the arm ``sum_of_heads``: for every attention the sum of its heads' writes as read back from their words."""
    found = oracle.reconstruct(list(texts))
    places = {key: row for row, key in enumerate(zip(held.document.tolist(), held.position.tolist(),
                                                     held.site.tolist(), strict=True))}  # fmt: skip
    parsed = [Site.parse(site) for site in held.sites]
    errors = torch.full((len(held),), torch.nan, dtype=torch.float64)
    for (document, position, site), row in places.items():
        heads = [place for place, one in enumerate(parsed) if one.kind == "head" and one.layer == parsed[site].layer]
        if parsed[site].kind == "attn" and heads:
            total = sum(found[places[document, position, head]] for head in heads)
            errors[row] = squared_errors(total[None], held.write[row : row + 1])[0]  # type: ignore[index]
    rows.errors["sum_of_heads"] = errors


def score_state_probe(rows: OracleRows, train: LabelledWrites, held: LabelledWrites) -> None:
    """Add the arm ``probe``: ridge regression of each component's normalised write on the state before it.

    A probe from state *and* write would copy the write; this one says how much of it the state alone tells.
    """
    preds = rows.means[0].expand(len(held), -1).clone()
    for place, site in enumerate(held.sites):
        rows_held = held.site == place
        if site not in train.sites or not rows_held.any():
            continue
        rows_train = train.site == train.sites.index(site)
        fitted = fit_ridge(normalise(train.before[rows_train]), normalise(train.write[rows_train]), _PROBE_DECAY)
        preds[rows_held] = fitted.predict(normalise(held.before[rows_held])).float()
    rows.errors["probe"] = (normalise(held.write.double()) - preds.double()).square().sum(-1)


def score_answers(
    rows: OracleRows, oracle: DiffOracle, held: LabelledWrites, explanations: Sequence[str],
    frequent: Mapping[str, Sequence[str]], previous: Sequence[Sequence[str]],
) -> None:  # fmt: skip
    """Add the scores of the questions, of strength, of silence and of the turned sign.

    Args:
        rows: receives them.
        oracle: that answers.
        held: the writes with the right answers.
        explanations: what the oracle says of each.
        frequent: for each site the words that its distant sources were most often in training.
        previous: for each row the words nearest to the position among the distant ones.
    """
    rows.counts |= named_words(oracle, held)
    score_sources(rows, oracle, held, frequent, previous)
    rows.counts["explanation/auc/skip_flip"] = torch.stack([flip_scores(oracle, held), _flips(held)], 1)
    _score_strength(rows, oracle, held, explanations)


def named_words(oracle: DiffOracle, held: LabelledWrites) -> dict[str, Float[Tensor, "n 2"]]:
    """Counts of the words that the oracle names as promoted and suppressed, four at least, and with the sign turned."""
    named: dict[str, list[Answer]] = {}
    counts: dict[str, Tensor] = {}
    settings: dict[str, Any] = {"max_new_tokens": MAX_NEW_TOKENS, "at_least": NAMED_WORDS}
    for question, opposite in (("promotes", "suppresses"), ("suppresses", "promotes")):
        for arm, sign, asked in (("explanation", 1, question), ("swapped", -1, opposite)):
            answers = oracle.ask(question, sign * held.write, held.before, **settings)
            right = [known[asked].tokens for known in held.answers]
            found = recall_counts([answer.tokens for answer in answers], right, NAMED_WORDS)
            counts[f"{arm}/recall_at_4/{question}"] = found
            named[question if sign > 0 else f"-{question}"] = answers
    sides = ("promotes", "suppresses", "-promotes", "-suppresses")
    counts["swapped/antisymmetry"] = torch.tensor([
        [float(_overlap(p.tokens, ts.tokens) + _overlap(s.tokens, tp.tokens)
               > _overlap(p.tokens, tp.tokens) + _overlap(s.tokens, ts.tokens)), 1.0]
        for p, s, tp, ts in zip(*(named[asked] for asked in sides), strict=True)
    ])  # fmt: skip
    return counts


def score_sources(
    rows: OracleRows, oracle: DiffOracle, held: LabelledWrites, frequent: Mapping[str, Sequence[str]],
    previous: Sequence[Sequence[str]],
) -> None:  # fmt: skip
    """Add the scores of the question about distant sources, with its two baselines; arguments as above."""
    rows.counts |= named_sources(oracle, held)
    asked = [row for row, answers in enumerate(held.answers) if "sources" in answers]
    arms = {
        "constant": [frequent.get(held.sites[held.site[row]], ()) for row in asked],
        "cat": [previous[row] for row in asked],
    }
    for arm, words in arms.items():
        rows.counts |= source_recalls(arm, words, held, asked)


def source_recalls(
    arm: str, words: Sequence[Sequence[str]], held: LabelledWrites, asked: Sequence[int]
) -> dict[str, Float[Tensor, "n 2"]]:
    """Counts of the distant sources among the first three words an arm names, of all and of the strong ones.

    Args:
        arm: its name.
        words: for each of ``asked`` what it names.
        held: the writes with the right answers.
        asked: rows of ``held``.
    """
    told = [held.answers[row]["sources"] for row in asked]
    right = {"": [answer.tokens for answer in told], "_strong": [answer.tokens[: answer.strong] for answer in told]}
    counts = {}
    for which, listed in right.items():
        table = torch.full((len(held), 2), torch.nan)
        table[list(asked)] = recall_counts(words, listed, NAMED_SOURCES)
        counts[f"{arm}/recall_at_3/sources_distant{which}"] = table
    return counts


def named_sources(oracle: DiffOracle, held: LabelledWrites) -> dict[str, Float[Tensor, "n 2"]]:
    """Counts of the distant sources that the oracle names, three for each head and attention: recall and precision.

    A reader's encoder of sources, where there is one, names three as well, arm ``encoder``.
    """
    asked = [row for row, answers in enumerate(held.answers) if "sources" in answers]
    rows = torch.tensor(asked)
    settings: dict[str, Any] = {"max_new_tokens": MAX_NEW_TOKENS, "at_least": NAMED_SOURCES}
    words = [answer.tokens for answer in oracle.ask("sources", held.write[rows], held.before[rows], **settings)]
    counts = source_recalls("explanation", words, held, asked)
    encoder = oracle.verbalizer.slots.encoder
    if encoder is not None:
        named = encoder.name(
            held.before[rows].to(oracle.verbalizer.device), held.write[rows].to(oracle.verbalizer.device)
        )
        counts |= source_recalls("encoder", named, held, asked)
    precision = torch.full((len(held), 2), torch.nan)
    told = torch.tensor([float(min(NAMED_SOURCES, len(listed))) for listed in words])
    precision[rows] = torch.stack([counts["explanation/recall_at_3/sources_distant"][rows, 0], told], 1)
    return {**counts, "explanation/precision_at_3/sources_distant": precision}


def _score_strength(rows: OracleRows, oracle: DiffOracle, held: LabelledWrites, explanations: Sequence[str]) -> None:
    told = [parse_label(text).strength for text in explanations]
    stated = torch.tensor([torch.nan if step is None else float(step) for step in told])
    rows.counts["explanation/spearman/strength"] = torch.stack([stated, held.write.norm(dim=-1).log()], 1)
    limit = 0.01 if oracle.strength is None else oracle.strength.nothing_below
    # Shrunk to a tenth of the limit and to ten times it: both must be told apart, whatever the direction.
    ratio = relative_norm(held.write, held.before).clamp_min(1e-12)
    faint = held.write * (0.1 * limit / ratio)[:, None]
    some = torch.arange(0, len(held), 4)
    small = oracle.explain(faint[some], held.before[some], max_new_tokens=MAX_NEW_TOKENS)
    zero = oracle.explain(torch.zeros_like(faint[some]), held.before[some], max_new_tokens=MAX_NEW_TOKENS)
    silent = torch.full((len(held), 2), torch.nan)
    silent[some] = torch.tensor([[float(parse_label(text).strength == 0), 1.0] for text in zero])
    rows.counts["same_twice/unchanged_rate"] = silent
    quiet_small = torch.tensor([float(parse_label(text).strength == 0) for text in small])
    loud = torch.tensor([float(step == 0) for step in told])
    truly = (relative_norm(held.write, held.before) < limit).float()
    table = torch.full((len(held), 2), torch.nan)
    table[some] = torch.stack([quiet_small + (loud * truly)[some], quiet_small + loud[some]], 1)
    rows.counts["explanation/precision/nothing"] = table


@torch.no_grad()
def flip_scores(oracle: DiffOracle, held: LabelledWrites, batch_size: int = 256) -> Float[Tensor, " n"]:
    """How much likelier the reader is to say "flips to" than "keeps", as a log-odds, for each write."""
    reader = oracle.verbalizer
    words = [reader.tokenizer.encode(f" {word} a", add_special_tokens=False) for word in ("flips to", "keeps")]
    place = next(i for i, pair in enumerate(zip(*words, strict=False)) if pair[0] != pair[1])
    ids = torch.tensor([words[0][: place + 1]])
    scores = []
    for start in range(0, len(held), batch_size):
        part = slice(start, start + batch_size)
        count = len(held.write[part])
        logits = reader(held.before[part], held.write[part], ids.expand(count, -1), "skip")[:, place].float()
        scores.append((logits[:, words[0][place]] - logits[:, words[1][place]]).cpu())
    return torch.cat(scores)


def distant_words(tokens: Sequence[int], position: int, texts: Sequence[str], count: int = 3) -> list[str]:
    """The words nearest to a position among those more than ``LOCAL`` tokens back (the first token left out)."""
    listed = [texts[i] for i in reversed(tokens[1 : max(1, position - LOCAL)])]
    return list(dict.fromkeys(word for word in listed if word))[:count]


def frequent_sources(train: LabelledWrites, sites: Sequence[str], count: int = 3) -> dict[str, list[str]]:
    """For each site the words that its distant sources are most often; those of all sites where training has none."""
    totals: dict[str, Counter[str]] = {}
    for site, answers in zip(train.site.tolist(), train.answers, strict=True):
        if "sources" in answers:
            totals.setdefault(train.sites[site], Counter()).update(answers["sources"].tokens)
    everywhere = sum(totals.values(), Counter[str]())
    named = {site: totals.get(site, everywhere).most_common(count) for site in sites}
    return {site: [word for word, _ in words] for site, words in named.items()}


def score_flip_probe(rows: OracleRows, train: LabelledWrites, held: LabelledWrites) -> None:
    """Add the ``probe`` of the skip question: logistic regression on state, write, log norm and component."""
    from tl_nla.metrics.probe import fit_probe

    known = [row for row in range(len(train)) if "skip" in train.answers[row]][:20_000]
    answers = [str(train.answers[row]["skip"].flips) for row in known]
    if len(set(answers)) < 2:
        return
    chosen = torch.tensor(known)
    probe = fit_probe(_features(train, held.sites)[chosen], answers, decay=1e-4)
    scores = probe.probabilities(_features(held, held.sites))[:, probe.classes.index("True")]
    rows.counts["probe/auc/skip_flip"] = torch.stack([scores, _flips(held)], 1)


def _features(writes: LabelledWrites, sites: Sequence[str]) -> Tensor:
    places = torch.tensor([sites.index(site) for site in writes.sites])[writes.site]
    which = torch.nn.functional.one_hot(places, len(sites)).float()
    size = relative_norm(writes.write, writes.before).clamp_min(1e-12).log()[:, None]
    return torch.cat([normalise(writes.before), normalise(writes.write), size, which], 1)


def _flips(held: LabelledWrites) -> Tensor:
    told = [answers["skip"].flips if "skip" in answers else None for answers in held.answers]
    return torch.tensor([torch.nan if flip is None else float(flip) for flip in told])


def recall_counts(said: Sequence[Sequence[str]], right: Sequence[Sequence[str]], count: int) -> Float[Tensor, "n 2"]:
    """For each row how many of the first right words are among the first said ones, and how many there are."""
    rows = []
    for named, true in zip(said, right, strict=True):
        wanted = {word.casefold() for word in true[:count]}
        rows.append([float(len(wanted & {word.casefold() for word in named[:count]})), float(len(wanted))])
    return torch.tensor(rows).reshape(-1, 2)


def _overlap(one: Sequence[str], two: Sequence[str]) -> int:
    return len({word.casefold() for word in one} & {word.casefold() for word in two})


def score_readers(
    rows: OracleRows, readers: Mapping[str, Any], texts: Mapping[str, list[str]], held: LabelledWrites
) -> None:
    """Add arms that a reconstructor reads, also without its refinement where it has one (``UNREFINED``)."""
    for arm, reader in readers.items():
        said = readable(reader, texts[arm])
        rows.errors[arm] = squared_errors(reader.reconstruct(said), held.write)
        if getattr(reader, "refinement", None) is not None:
            rows.errors[UNREFINED + arm] = squared_errors(reader.reconstruct(said, refined=False), held.write)


def score_long_context(rows: OracleRows, reader: Any, texts: Mapping[int, str], held: LabelledWrites) -> None:
    """Add the arm ``cat_long``, of attentions only."""
    places = torch.tensor(list(texts), dtype=torch.long)
    errors = torch.full((len(held),), torch.nan, dtype=torch.float64)
    found = reader.reconstruct(readable(reader, list(texts.values())))
    errors[places] = squared_errors(found, held.write[places]).double()
    rows.errors["cat_long"] = errors
