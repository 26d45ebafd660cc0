"""Steered generation against a loop around Hugging Face ``generate``, a token and a prompt at a time. ``make bench``.

Both sides verbalize, rewrite and read back the state of the prompt's last token and of every generated one. The loop's
time grows with the prompts exactly, so it is run on one of them and multiplied.
"""

import time

import pytest
import torch
import transformers

import tl_nla
from tl_nla.adapters import SteeringAdapter
from tl_nla.metrics.functional import normalise
from tl_nla.nla.prompts import extract_explanation
from tl_nla.steering import substitute
from tl_nla.storyworld.corpus import held_out_stories, story_ids
from tl_nla.storyworld.lexicon import COLOURS, FEELINGS, PLACES
from tl_nla.storyworld.tiny import WEIGHTS

PROMPTS, LOOPED, LENGTH, NEW = 16, 1, 40, 32
NEXT = {word: words[(place + 1) % len(words)] for words in (COLOURS, FEELINGS, PLACES)
        for place, word in enumerate(words)}  # fmt: skip


class Loop:
    """The obvious way: a hook that explains the newest state by ``generate``, and ``generate`` for each token."""

    def __init__(self, tiny):
        self.nla, self.rewrite = tiny.nla, substitute(NEXT)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(WEIGHTS / "target", dtype=torch.float32).eval()
        self.layer = self.model.model.layers[tiny.nla.layer]

    @torch.no_grad()
    def explain(self, state):
        verbalizer = self.nla.verbalizer
        embeddings = verbalizer.prompt_embeddings(state[None])
        out = verbalizer.model.generate(
            inputs_embeds=embeddings, attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long),
            do_sample=False, max_new_tokens=150, eos_token_id=list(verbalizer.stop_ids), pad_token_id=verbalizer.pad_id,
        )  # fmt: skip
        text = verbalizer.tokenizer.decode(out[0])
        return extract_explanation(text) or text

    def steer(self, ids):
        tokens, self.shifts, self.words = ids[None], [], []
        for _ in range(NEW):
            handle = self.layer.register_forward_hook(self.change)
            tokens = self.model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=1,
                                         do_sample=False, pad_token_id=0, eos_token_id=None)  # fmt: skip
            handle.remove()
        return tokens[0, len(ids) :]

    def change(self, module, args, output):
        states = output[0] if isinstance(output, tuple) else output
        state = states[0, -1]
        text = self.explain(state)
        new, old = (normalise(self.nla.reconstruct([words])[0]) for words in (self.rewrite(text), text))
        self.words.append(text)
        self.shifts.append((new - old) * state.norm() / len(state) ** 0.5)
        changed = states.clone()
        changed[0, -len(self.shifts) :] += torch.stack(self.shifts)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


def timed(function):
    start = time.process_time()
    found = function()
    return time.process_time() - start, found


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_steered_generation_against_a_loop(benchmark):
    transformers.logging.set_verbosity_error()
    tiny = tl_nla.load_tiny()
    rows = [story_ids(tiny.tokenizer, story)[:LENGTH] for story in held_out_stories(2 * PROMPTS)]
    prompts = torch.tensor([row for row in rows if len(row) == LENGTH][:PROMPTS])

    def ours(tokens=prompts, new=NEW):
        adapter = SteeringAdapter(tiny.nla, tiny.nla.site, substitute(NEXT), positions=slice(-1, None))
        with tl_nla.attach(tiny.model, adapter):
            grown = tiny.model.generate(tokens, max_new_tokens=new, do_sample=False, verbose=False, stop_at_eos=False)
        return grown[:, LENGTH:], adapter.results()

    ours(prompts[:2], 2)
    seconds, (said, steered) = timed(ours)
    loop = Loop(tiny)
    looped, equal = 0.0, []
    for row in range(LOOPED):
        took, alone = timed(lambda row=row: loop.steer(prompts[row]))
        looped += took
        words = [one.before for one in steered if one.batch == row]
        equal += [float(torch.equal(alone, said[row])), float(words == loop.words)]
    ratio = looped / LOOPED * PROMPTS / seconds
    benchmark.extra_info |= {"ours_s": seconds, "loop_s_a_prompt": looped / LOOPED, "ratio": ratio}
    benchmark.pedantic(lambda: None)
    print(benchmark.extra_info)  # noqa: T201
    assert len(steered) == PROMPTS * NEW
    assert equal == [1.0, 1.0] * LOOPED, "both sides must say the same words and tokens"
    assert ratio >= 5
