"""Which facts a state holds: linear probes decide what an explanation written from the truth may say.

A verbalizer that is trained to say what its input does not hold learns to invent. The text may have told a fact that
the model keeps elsewhere: at the token that told it, from where attention fetches it. An explanation of this state then
has no ground for it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.finite import check_finite
from tl_nla.metrics.probe import Probe
from tl_nla.outputs import check_file
from tl_nla.paths import user_path
from tl_nla.storyworld.explanations import fact_answers
from tl_nla.storyworld.facts import Facts


@dataclass(frozen=True)
class Grounding:
    """Probes of one site, one a kind of fact.

    Attributes:
        probes: kind of :func:`tl_nla.storyworld.explanations.fact_answers` -> probe.
        floor: a fact is held where its probe gives the truth at least this probability.
        site: hook point of the states.
    """

    probes: dict[str, Probe]
    floor: float = 0.3
    site: str = ""

    def __post_init__(self) -> None:
        """Check the floor."""
        if not 0 <= self.floor <= 1:
            raise InputError(f"floor is {self.floor}; it is a probability, between 0 (say all) and 1")

    def held(self, acts: Float[Tensor, "n d_model"], facts: Sequence[Facts]) -> list[frozenset[str]]:
        """Kinds of facts that each state holds."""
        answers = [fact_answers(known) for known in facts]
        kinds: list[set[str]] = [set() for _ in answers]
        for kind, probe in self.probes.items():
            place = {word: number for number, word in enumerate(probe.classes)}
            asked = [row for row, answer in enumerate(answers) if answer[kind] in place]
            if not asked:
                continue
            chances = probe.probabilities(acts[asked].float())
            for row, chance in zip(asked, chances, strict=True):
                if float(chance[place[str(answers[row][kind])]]) >= self.floor:
                    kinds[row].add(kind)
        return [frozenset(one) for one in kinds]

    def save(self, path: str | Path) -> None:
        """Write the probes, in half precision, to one safetensors file."""
        tensors = {
            f"{kind}.{name}": getattr(probe, name).half().contiguous()
            for kind, probe in self.probes.items()
            for name in ("mean", "deviation", "weight", "bias")
        }
        classes = {kind: probe.classes for kind, probe in self.probes.items()}
        about = {"floor": str(self.floor), "site": self.site, "classes": json.dumps(classes)}
        check_finite(tensors, "the grounding")
        save_file(tensors, check_file(path), metadata=about)

    @classmethod
    def load(cls, path: str | Path) -> "Grounding":
        """Read what :meth:`save` wrote.

        Raises:
            InputError: when the file is missing or damaged.
        """
        path = user_path(path)
        if not path.is_file():
            raise InputError(f"no probes at {path}; run 'python -m docs.studies tiny --parts nla'")
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata()
                tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise InputError(f"{path} is damaged: {error}") from None
        parts = ("mean", "deviation", "weight", "bias")
        probes = {
            kind: Probe(tuple(words), *(tensors[f"{kind}.{name}"] for name in parts))
            for kind, words in json.loads(about["classes"]).items()
        }
        return cls(probes, float(about["floor"]), about["site"])
