"""Labels as text, and text back into labels.

One sentence a write::

    layer 1 head 3 promotes red blue; suppresses tall; attended Mira boat; strength three

Parts that are missing are left out ("It" stands for a component that is not told). A word with a comma, semicolon,
quote or space in it stands as a JSON string. Words have no commas between them: half the tokens, all of them words.
"""

import json
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache

from tl_nla.errors import InputError
from tl_nla.model.sites import Site
from tl_nla.oracle.labels.strength import STEPS

_PARTS = {"promotes": "promoted", "suppresses": "suppressed", "attended": "sources"}
_NONE, _UNTOLD = "none", "It"
_PLAIN = re.compile(r'[^\s,;"]+')
_WORD = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^\s,;"]+)\s*')
# Quoted words may hold any separator, so parts are cut outside quotes only.
_COMPONENT = re.compile(r"\s*(It\b|layer \d+ (?:head \d+|mlp|attention|block)(?!\S)|from layer \d+ to \d+(?!\S))")
_SPLIT = re.compile(r'((?:[^;"]|"(?:[^"\\]|\\.)*")*)(?:;|$)')


@dataclass(frozen=True)
class Label:
    """What a write does, in words; ``None`` for a part that is not told, an empty tuple for "none".

    Attributes:
        promoted: words made more likely, strongest first.
        suppressed: words made less likely.
        sources: words read, strongest first.
        strength: index into ``STEPS``.
        component: who writes, in the words of :func:`component_words`; ``None`` when it is not told.
    """

    promoted: tuple[str, ...] | None = None
    suppressed: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    strength: int | None = None
    component: str | None = None
    rest: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.strength is not None and not 0 <= self.strength < len(STEPS):
            raise InputError(f"strength step is {self.strength}; allowed: 0 to {len(STEPS) - 1}")

    def swapped(self) -> "Label":
        """The label of the same write with the opposite sign."""
        return replace(self, promoted=self.suppressed, suppressed=self.promoted)


def label_text(label: Label) -> str:
    """The sentence of a label.

    Raises:
        InputError: for a label that tells nothing.
    """
    parts = [f"{name} {list_words(words)}" for name, attribute in _PARTS.items()
             if (words := getattr(label, attribute)) is not None]  # fmt: skip
    if label.strength is not None:
        parts.append(f"strength {STEPS[label.strength]}")
    if not parts:
        raise InputError("the label tells nothing; give at least one of promoted, suppressed, sources, strength")
    return f"{label.component or _UNTOLD} " + "; ".join(parts)


def component_words(site: Site | str) -> str | None:
    """Who writes, in words; ``None`` for a span that does not run from the input of one block to the output of one."""
    site = Site.parse(site)
    if site.kind == "span" and site.start is not None and site.end is not None:
        whole = str(site.start.point).endswith("resid_pre") and str(site.end.point).endswith("resid_post")
        return f"from layer {site.start.layer} to {site.end.layer}" if whole else None
    names = {"head": f"head {site.head}", "mlp": "mlp", "attn": "attention", "block": "block"}
    return f"layer {site.layer} {names[site.kind]}" if site.kind in names else None


def parse_label(text: str) -> Label:
    """Read a sentence back; anything that is no part of the template goes to ``rest`` (never an error).

    A part that stands twice counts the first time.
    """
    found: dict[str, object] = {}
    rest = []
    component = _COMPONENT.match(text)
    if component:
        text = text[component.end() :]
        found["component"] = None if component[1] == _UNTOLD else component[1]
    for part in split_parts(text):
        name, _, words = part.partition(" ")
        words = words.strip()
        if name in _PARTS and _PARTS[name] not in found:
            found[_PARTS[name]] = tuple(parse_words(words))
        elif name == "strength" and words.rstrip(".") in STEPS and "strength" not in found:
            found["strength"] = STEPS.index(words.rstrip("."))
        elif part:
            rest.append(part)
    return Label(**found, rest=tuple(rest))  # type: ignore[arg-type]


def split_parts(text: str) -> list[str]:
    """Parts of a sentence between semicolons; those inside quotes separate nothing."""
    return [match[1].strip() for match in _SPLIT.finditer(text)]


def list_words(words: tuple[str, ...] | list[str]) -> str:
    """Words with spaces between them; "none" for no words."""
    if not words:
        return _NONE
    return " ".join(_quote(word) for word in words)


def parse_words(text: str, limit: int | None = None) -> list[str]:
    """Words of a list, quoted or not, without repetitions; an unclosed quote ends the list.

    Args:
        text: the list.
        limit: how many words are looked for; all when ``None``.
    """
    words: list[str] = []
    place = 0
    while (limit is None or len(words) < limit) and (match := _WORD.match(text, place)):
        word = _unquote(match[1])
        if word is not None and word not in words and match[1] != _NONE:
            words.append(word)
        place = match.end()
        if text[place : place + 1] == ",":
            place += 1
    return words


NOTHING = label_text(Label((), (), None, 0))
"""What is said of a write too small to matter."""


@lru_cache(maxsize=2**16)
def _quote(word: str) -> str:
    plain = _PLAIN.fullmatch(word) and word != _NONE
    return word if plain else json.dumps(word, ensure_ascii=False)


def _unquote(word: str) -> str | None:
    if not word.startswith('"'):
        return word
    try:
        return str(json.loads(word, strict=False))
    except json.JSONDecodeError:
        return None
