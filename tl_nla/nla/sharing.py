"""Pairs on the hub, with a card that says how they were made, how well they did, and how to load them."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tl_nla.errors import InputError
from tl_nla.model.files import first_line
from tl_nla.nla.pair import NLA
from tl_nla.nla.provenance import record


@dataclass(frozen=True)
class CardFacts:
    """What a card says that the pair does not know of itself.

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


def push_to_hub(nla: NLA, repo_id: str, facts: CardFacts, private: bool = True) -> str:
    """Save a pair in the official layout and upload it, with its card and provenance.

    Args:
        nla: the pair.
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

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pair"
        nla.save_pretrained(folder)
        (folder / "README.md").write_text(model_card(nla, repo_id, facts), encoding="utf-8")
        try:
            api = HfApi()
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="A pair made with tl-nla")
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise InputError(f"{repo_id!r} could not be uploaded: {first_line(error)}") from error
    return str(address)


def model_card(nla: NLA, repo_id: str, facts: CardFacts) -> str:
    """The text of a pair's card, with the hub's metadata in front.

    Args:
        nla: the pair.
        repo_id: where it will be.
        facts: what the pair does not know of itself.

    Raises:
        InputError: for figures whose rows have different columns.
    """
    from huggingface_hub import ModelCardData

    data = ModelCardData(license=facts.licence, base_model=nla.base or None, library_name="tl-nla",
                         tags=["natural-language-autoencoder", "interpretability"])  # fmt: skip
    made = record(nla.verbalizer.model, nla.layer, nla.base)
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    lines = [
        f"---\n{data.to_yaml()}\n---", f"# {repo_id.split('/')[-1]}",
        f"Verbalizer (`av/`) and reconstructor (`ar/`) of states of `{nla.base or 'a model that is not named'}`, layer "
        f"{nla.layer}: the {made['layer_convention']}, `{nla.site}` in TransformerLens.",
        f'```python\nimport tl_nla\n\nnla = tl_nla.NLA.from_pretrained("{repo_id}")\nprint(nla.verbalize(states))\n```',
        "## Figures", _table(facts.figures) if facts.figures else "None were given.",
        *([f"Remade by `{facts.command}`."] if facts.command else []),
        "## How it was made", *([facts.trained_on] if facts.trained_on else []),
        f"{versions}; weights in {made['dtype']}; injection `{nla.verbalizer.injection.config.kind}`.",
    ]  # fmt: skip
    return "\n\n".join(lines) + "\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(rows[0])
    if any(list(row) != columns for row in rows):
        raise InputError(f"the figures' rows have different columns; give each {columns}")
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*head, *("| " + " | ".join(str(row[name]) for name in columns) + " |" for row in rows)])
