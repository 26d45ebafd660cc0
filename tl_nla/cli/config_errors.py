"""What jsonargparse says of a wrong configuration, as a sentence for a person."""

import difflib
import importlib
import inspect
import re

_PLACE = re.compile(r"(?:Parser key \"([\w.]+)\":|Problem with given class_path '([\w.]+)':)\s*")
_UNION = re.compile(r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: ")
_GIVEN = re.compile(r" Given value type: <class '[^']*'>(?: Given value: NestedArg\(.*?\)(?= - |$))?")
_TYPE = re.compile(r"<class '([\w.]+)'>")
_OPTION = re.compile(r"Option '([\w.]+)' is not accepted")


def readable(text: str) -> str:
    """Name the key at fault once, and leave out what jsonargparse tried besides.

    Args:
        text: its message, white space collapsed.

    Returns:
        The dotted key and the reasons; the text itself where it names no key.

    Example:
        ``readable(str(error))`` is ``"data.corpus.documents: expected int; Given value: two"``
    """
    if text.startswith("the following arguments are required"):
        return f"{text}; give them in a YAML file, -c FILE.yaml (tl-nla fit --help has examples)"
    places = list(_PLACE.finditer(text))
    if not places:
        return text
    rest = _GIVEN.sub("", _UNION.sub("", text[places[-1].end() :]))
    plain = _TYPE.sub(r"\1", rest).replace("Expected a ", "expected ").replace("typing.Literal", "one of ")
    reasons = [reason.strip(" -").replace("expected NoneType", "").strip() for reason in plain.split(" - ")]
    listed = list(dict.fromkeys(reasons))
    keys = ".".join(place[1] for place in places if place[1])
    kinds = [place[2] for place in places if place[2]]
    option = _OPTION.search(rest)
    if option is not None and kinds:
        listed = [_unknown_option(option[1], kinds[-1])]
    return f"{keys}: {'; '.join(reason for reason in listed if reason)}"


def _unknown_option(name: str, kind: str) -> str:
    module, _, found = kind.rpartition(".")
    options = inspect.signature(getattr(importlib.import_module(module), found)).parameters
    near = difflib.get_close_matches(name, options, 3, 0.6)
    return f"{found} has no setting {name!r}; {'nearest' if near else 'it has'}: {', '.join(near or options)}"
