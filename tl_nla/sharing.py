"""What was trained goes to the hub, with a card that says how it was made, how well it did, and how to load it.

An artefact is whatever can write its folder and say what it is: a pair, a diff oracle, a steering vector, head cards.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tl_nla.errors import InputError
from tl_nla.model.files import first_line

__all__ = ["About", "Artefact", "CardFacts", "model_card", "push_to_hub"]


@dataclass(frozen=True)
class CardFacts:
    """What a card says that the artefact does not know of itself.

    Attributes:
        licence: of the weights, as the hub spells it; that of the base model applies to them as well.
        figures: rows of scores, such as ``{"arm": "explanation", "fve": .75}``; show the controls beside them.
        trained_on: the text, in a sentence.
        command: that remakes the figures.
    """

    licence: str
    figures: Sequence[Mapping[str, Any]] = ()
    trained_on: str = ""
    command: str = ""


@dataclass(frozen=True)
class About:
    """What an artefact says of itself.

    Attributes:
        what: one or two sentences: its parts, and what they read.
        load: lines of Python that load it; ``{repo}`` stands for its address.
        base: name of the model that it was made from or for; empty when unknown.
        made: one line: versions, precision and what else decides.
        tag: of the hub, beside ``interpretability``.
    """

    what: str
    load: str
    base: str
    made: str
    tag: str


@runtime_checkable
class Artefact(Protocol):
    """What can be shared."""

    def save_pretrained(self, folder: Path) -> None:
        """Write the folder that ``from_pretrained`` reads."""

    def about(self) -> About:
        """What the card says."""


def push_to_hub(artefact: Artefact, repo_id: str, facts: CardFacts, private: bool = True) -> str:
    """Save an artefact and upload it, with its card and provenance.

    Args:
        artefact: an :class:`~tl_nla.NLA` (in the official layout), a :class:`~tl_nla.DiffOracle`, a
            :class:`~tl_nla.steering.SteeringVector` or :class:`~tl_nla.reports.HeadCards`.
        repo_id: ``"name/repository"``; made when it is not there.
        facts: for the card.
        private: whether a new repository is private.

    Returns:
        The repository's address.

    Raises:
        InputError: when a weight is not finite, or the hub refuses or cannot be reached.

    Example:
        >>> push_to_hub(nla, "me/nla-gpt2-L6", CardFacts("mit", [{"arm": "explanation", "fve": 0.7}]))
        >>> NLA.from_pretrained("me/nla-gpt2-L6")
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    card = model_card(artefact, repo_id, facts)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "artefact"
        artefact.save_pretrained(folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        try:
            api = HfApi()
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Made with tl-nla")
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise InputError(f"{repo_id!r} could not be uploaded: {first_line(error)}") from error
    return str(address)


def model_card(artefact: Artefact, repo_id: str, facts: CardFacts) -> str:
    """The text of an artefact's card, with the hub's metadata in front.

    Args:
        artefact: what is shared.
        repo_id: where it will be.
        facts: what the artefact does not know of itself.

    Raises:
        InputError: for figures whose rows have different columns.
    """
    from huggingface_hub import ModelCardData

    about = artefact.about()
    data = ModelCardData(license=facts.licence, base_model=about.base or None, library_name="tl-nla",
                         tags=[about.tag, "interpretability"])  # fmt: skip
    lines = [
        f"---\n{data.to_yaml()}\n---", f"# {repo_id.split('/')[-1]}", about.what,
        "```python\n" + about.load.replace("{repo}", repo_id) + "\n```",
        "## Figures", _table(facts.figures) if facts.figures else "None were given.",
        *([f"Remade by `{facts.command}`."] if facts.command else []),
        "## How it was made", *([facts.trained_on] if facts.trained_on else []), about.made,
    ]  # fmt: skip
    return "\n\n".join(lines) + "\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(rows[0])
    if any(list(row) != columns for row in rows):
        raise InputError(f"the figures' rows have different columns; give each {columns}")
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*head, *("| " + " | ".join(str(row[name]) for name in columns) + " |" for row in rows)])
