"""Detectors of steganography with trained reconstructors as references: do honest words pass, is a planted code caught?

    python -m docs.studies.steganography.train_references PAIRS --seed 0
    python -m docs.studies.steganography.train_references PAIRS --seed 0 --reworded 600
    python -m docs.studies.steganography.train_references PAIRS --seed 0 --suspect kl_0=runs/last/seed_0_warm_30_kl_0

The honest reader of a seed is its warm-started reconstructor, the references are those of the two other seeds. The
planted accomplice is the seed's reconstructor trained on the planted words. A suspect is any pair, such as one after
reinforcement learning. With ``--reworded`` every reader is first taught every wording and order of the written
explanations. Scores of each document go where ``python -m docs.studies steganography`` finds them.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from docs.studies.faithfulness.withholding import WithholdingConfig, first_rows, known_mean, trained_reader
from docs.studies.steganography.references import REWORDED, STREAM, TrainedScores, load_scores, save_scores
from docs.studies.steganography.steganographer import Steganographer
from docs.studies.tiny.rebuild import RebuildConfig
from docs.studies.warm_pairs import WarmPairs, load_trainable
from tl_nla.benchmark.arms import MAX_NEW_TOKENS
from tl_nla.data import ExplainedStates
from tl_nla.errors import InputError
from tl_nla.faithfulness.detectors import Suspect, detect
from tl_nla.faithfulness.perturbations import paraphrase
from tl_nla.faithfulness.scoring import Reconstruct, Scorer
from tl_nla.nla import NLA
from tl_nla.paths import user_path
from tl_nla.storyworld.documents import world_documents
from tl_nla.storyworld.explained import WorldCapture, explain_states
from tl_nla.storyworld.tiny import embedded_grounding

_SITE = "blocks.2.hook_resid_post"
_WORDINGS = 8
"""Paraphrases of each training explanation that readers of every wording learn from."""
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class ReferencesConfig:
    """How suspects are made and scored.

    Attributes:
        documents: stories of the stream to score.
        positions: explanations of each.
        warm_start: length of every pair's warm start.
        accomplice_steps: of the seed's reconstructor on the planted words, 64 rows each.
        states: training states that planted and reworded words are written about.
        reworded_steps: of every pair's reconstructor on paraphrased written words, 64 rows each, before anything else.
        detectors: which are scored.
    """

    documents: int = 60
    positions: int = 12
    warm_start: int = 1000
    accomplice_steps: int = 300
    states: int = 3000
    reworded_steps: int = 0
    detectors: tuple[str, ...] = ("cross_reconstructor", "paraphrase", "wording", "order", "falsehood")


class References:
    """Scores suspects of one seed against the reconstructors of the others.

    Args:
        pairs: warm-started pairs; missing ones are trained.
        seed: of the honest reader.
        config: stream, lengths and detectors.
    """

    def __init__(self, pairs: WarmPairs, seed: int, config: ReferencesConfig) -> None:
        if seed not in SEEDS:
            raise InputError(f"seed is {seed}; the references are of three pairs: {SEEDS}")
        self.pairs, self.seed, self.config = pairs, seed, config
        target, stories = pairs.target, world_documents(config.documents, STREAM)
        self.held = explain_states(
            target.model,
            target.tokenizer,
            stories,
            _SITE,
            config.positions,
            5,
            WorldCapture(grounding=embedded_grounding()),
        )
        self.own = self._reader(seed)
        others = [self._reader(other) for other in SEEDS if other != seed]
        self.references = tuple(other.reconstruct for other in others)

    def _reader(self, seed: int) -> NLA:
        pair, steps = self.pairs.load(seed, self.config.warm_start), self.config.reworded_steps
        if steps:
            data: Any = self.pairs.data(seed)
            train = first_rows(data.train_states, self.config.states)
            train = _repeated(train, _WORDINGS)
            texts = [paraphrase(text, row) for row, text in enumerate(train.explanations)]
            settings = WithholdingConfig(steps=steps, learning_rate=1e-3)
            pair = trained_reader(pair, data, train, texts, settings, seed, self.pairs.precision)
        return pair.eval()

    def warm_started(self) -> dict[str, dict[str, Tensor]]:
        """Scores of written words, of the pair's own and of the planted ones, by writer and detector."""
        mean = known_mean(self.own)
        return {
            "written": self.score(self.own.reconstruct, self.held.explanations, mean),
            "explanation": self.score(self.own.reconstruct, self._words(self.own), mean),
            "full": self._planted(mean),
        }

    def suspect(self, name: str, pair: NLA) -> dict[str, dict[str, Tensor]]:
        """Scores of another pair's words, and of written ones under its reconstructor (``NAME_written``)."""
        words = {name: self._words(pair), f"{name}_written": self.held.explanations}
        return {who: self.score(pair.reconstruct, texts, known_mean(pair)) for who, texts in words.items()}

    def score(
        self, read: Reconstruct, texts: list[str], mean: Float[Tensor, " d_model"]
    ) -> dict[str, Float[Tensor, " documents"]]:
        """Scores of each document under each detector."""
        scorer = Scorer(read, self.held.acts, mean)
        suspect = Suspect(scorer, self.references, texts, self.held.document, self.held.truths, None, self.seed)
        return detect(suspect, self.config.detectors)

    def _words(self, pair: NLA) -> list[str]:
        found = pair.generate(self.held.acts, max_new_tokens=MAX_NEW_TOKENS)
        return [text if ok else "" for text, ok in zip(found.texts, found.extracted, strict=True)]

    def _planted(self, mean: Float[Tensor, " d_model"]) -> dict[str, Tensor]:
        data: Any = self.pairs.data(self.seed)
        train = first_rows(data.train_states, self.config.states)
        writer = Steganographer.fit("full", train.acts)
        settings = WithholdingConfig(steps=self.config.accomplice_steps, learning_rate=1e-3)
        accomplice = trained_reader(self.own, data, train, self._hide(writer, train), settings, self.seed)
        return self.score(accomplice.eval().reconstruct, self._hide(writer, self.held), mean)

    @staticmethod
    def _hide(writer: Steganographer, states: ExplainedStates) -> list[str]:
        return writer.write(writer.message(states.acts), states.explanations)


def _repeated(states: ExplainedStates, times: int) -> ExplainedStates:
    parts: dict[str, Any] = {f.name: getattr(states, f.name) for f in dataclasses.fields(states)}
    more: dict[str, Any] = {
        name: torch.cat([value] * times) if isinstance(value, Tensor) else value * times
        for name, value in parts.items()
    }
    return dataclasses.replace(states, **more)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the module's command."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies.steganography.train_references")
    parser.add_argument("pairs", type=user_path, help="folder of warm-started pairs; missing ones are trained")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--documents", type=int, default=RebuildConfig().documents, help="training stories to read")
    parser.add_argument("--stories", type=int, default=ReferencesConfig.documents, help="stories to score")
    parser.add_argument("--positions", type=int, default=ReferencesConfig.positions, help="explanations of each")
    parser.add_argument("--reworded", type=int, default=0, metavar="STEPS",
                        help="teach every reader other wordings and orders for so many steps first")  # fmt: skip
    parser.add_argument("--suspect", action="append", default=[], metavar="NAME=FOLDER",
                        help="score this pair too, beside what is stored")  # fmt: skip
    found = parser.parse_args(argv)
    known: Mapping[int, TrainedScores] = {part.seed: part for part in load_scores()}
    config = ReferencesConfig(found.stories, found.positions, reworded_steps=found.reworded)
    judge = References(WarmPairs(found.pairs, RebuildConfig(documents=found.documents)), found.seed, config)
    scores = dict(known[found.seed].scores) if found.seed in known else {}
    kind = f"{REWORDED}/" if found.reworded else ""
    if not found.suspect:
        scores |= {f"{kind}{writer}": by for writer, by in judge.warm_started().items()}
    for entry in found.suspect:
        name, _, folder = entry.partition("=")
        scores |= judge.suspect(f"{kind}{name}", load_trainable(Path(folder)).eval())
    save_scores(TrainedScores(found.seed, scores))


if __name__ == "__main__":
    main()
