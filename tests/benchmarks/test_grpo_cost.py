"""One step of reinforcement learning against a loop around Hugging Face ``generate`` with a separate scoring pass.

Same pair, prompts, group and cap, both updates included; only where the rollouts come from differs. ``make bench``.
"""

import copy
import time

import pytest
import torch
import transformers

from lightning_modules.training.nla_training import NLATraining
from tl_nla.nla.generation import Responses
from tl_nla.nla.rollouts import BuiltInBackend, RolloutConfig, token_logprobs
from tl_nla.storyworld.tiny import load_tiny

PROMPTS, CONFIG = 12, RolloutConfig(group=8, max_new_tokens=72)
PLACES, NAMES = ("park", "school", "house", "shop"), ("Tom", "Anna", "Ben", "Mia")


class LoopBackend:
    """What published training scripts do: ``generate`` a prompt at a time (or all at once), then score the texts."""

    exact = True

    def __init__(self, at_once):
        self.at_once = at_once

    def sample(self, verbalizer, acts, config, generator=None):
        parts = acts.repeat_interleave(config.group, 0).split(config.group * (len(acts) if self.at_once else 1))
        rows = [row for part in parts for row in self.generate(verbalizer, part, config)]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), verbalizer.pad_id)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
        mask = torch.arange(width) < torch.tensor([[len(row)] for row in rows])
        with torch.no_grad():
            logprobs = token_logprobs(verbalizer, acts.repeat_interleave(config.group, 0), ids, mask)
        finished = torch.tensor([row[-1] in verbalizer.stop_ids for row in rows])
        return verbalizer._read(Responses(ids, mask, logprobs, finished))

    @torch.no_grad()
    def generate(self, verbalizer, acts, config):
        embeddings = verbalizer.prompt_embeddings(acts)
        out = verbalizer.model.generate(
            inputs_embeds=embeddings, attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long), do_sample=True,
            temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=config.max_new_tokens,
            eos_token_id=list(verbalizer.stop_ids), pad_token_id=verbalizer.pad_id,
        )  # fmt: skip
        for row in out.tolist():
            ends = [place for place, token in enumerate(row) if token in verbalizer.stop_ids]
            yield row[: ends[0] + 1] if ends else row


@pytest.fixture(scope="module")
def nla():
    return load_tiny().nla


@pytest.fixture(scope="module")
def acts(nla):
    texts = [f'Recent words: "went to the {p}. {n}". Next: likely " was". This is about {n}. {n} is at the {p}.'
             for p in PLACES for n in NAMES]  # fmt: skip
    return nla.reconstruct(texts)[:PROMPTS]


def step_seconds(nla, acts, backend, runs=2):
    training = NLATraining(nla=copy.deepcopy(nla), rollouts=CONFIG, backend=backend)
    training.mean = None
    seconds, tokens = [], []
    for run in range(runs + 1):
        training.batches = run
        torch.manual_seed(run)
        start = time.process_time()
        found = training.explore(acts)
        loss, _ = training.losses(found)
        loss.backward()
        seconds.append(time.process_time() - start)
        tokens.append(int(found.generation.mask.sum()))
    return min(seconds[1:]), sum(tokens[1:]) / runs


def test_a_step_is_faster_than_generate_and_score(benchmark, nla, acts):
    transformers.logging.set_verbosity_error()
    found = BuiltInBackend().sample(nla.verbalizer, acts, CONFIG, torch.Generator().manual_seed(0))
    with torch.no_grad():
        scored = token_logprobs(nla.verbalizer, acts.repeat_interleave(CONFIG.group, 0), found.ids, found.mask)
    difference = float((scored - found.logprobs).abs().max())
    ours, our_tokens = step_seconds(nla, acts, BuiltInBackend())
    loop, loop_tokens = step_seconds(nla, acts, LoopBackend(False))
    batch, _ = step_seconds(nla, acts, LoopBackend(True))
    benchmark.extra_info |= {
        "ours_s": ours, "loop_s": loop, "one_generate_s": batch,
        "ratio": loop / ours, "ratio_one_generate": batch / ours,
        "logprob_difference": difference, "tokens": our_tokens, "loop_tokens": loop_tokens,
    }  # fmt: skip
    print(benchmark.extra_info)  # noqa: T201
    benchmark.pedantic(lambda: None)
    assert difference <= 1e-4
    assert abs(our_tokens / loop_tokens - 1) < 0.1, "both sides must write about as much"
    assert loop / ours >= 1.5
