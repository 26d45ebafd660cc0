"""Contribution reports as one HTML file: the modules and the style of the Contributions tab, and packed reports."""

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from tl_nla.errors import InputError
from tl_nla.markdown import show
from tl_nla.reports.packed import pack
from tl_nla.reports.tensorboard.plugin.names import SHARED, STATIC, STYLE

_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src '{script_hash}'; style-src '{style_hash}'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<noscript>This report needs JavaScript. It loads nothing from anywhere.</noscript>
<script type="application/json" id="reports">{reports}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def html_page(
    reports: Mapping[str, Any], path: str | os.PathLike[str] | None = None, most_bytes: int = 2_000_000
) -> str:
    """The page of some reports.

    Args:
        reports: a :class:`tl_nla.reports.ContributionReport` each, by the name that the page shows.
        path: where the page is written, whole or not at all; nowhere when ``None``.
        most_bytes: largest size of the page.

    Returns:
        The page, which names no address and may load nothing: its own policy forbids it.

    Raises:
        InputError: when the numbers of the reports do not fit, or the file cannot be written.
    """
    style, script = (STATIC / STYLE).read_text("utf-8"), _script()
    first = next(iter(reports.values()))
    fields = {
        "style": style, "script": script, "style_hash": _hash(style), "script_hash": _hash(script),
        "title": html.escape(f"Contributions in {show(first.model)}"),
    }  # fmt: skip
    room = most_bytes - len(_PAGE.format(**fields, reports="").encode())
    share = (room - 200 * len(reports)) // len(reports)
    packed = {name: pack(report.to_dict(), max(0, share)) for name, report in reports.items()}
    page = _PAGE.format(**fields, reports=_inert(json.dumps(packed, separators=(",", ":"))))
    if path is not None:
        from tl_nla.whole_file import write_text

        write_text(page, path)
    return page


def _script() -> str:
    """The modules of the view as one: each is a function that gives what it exports."""
    joined = "\n".join(_scope(name, (STATIC / f"{name}.js").read_text("utf-8")) for name in (*SHARED, "embedded"))
    if "</script" in joined.lower() or "<!--" in joined:
        raise InputError("a module of the view holds what ends a script block in HTML; write it otherwise")
    return f"\n{joined}"


def _scope(name: str, text: str) -> str:
    exported = ", ".join(found[2] for found in _EXPORT.finditer(text))
    body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = in_\2;", text))
    return f"const in_{name} = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();"


def _inert(text: str) -> str:
    """JSON that HTML cannot read as markup, and JavaScript not as a line end."""
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
