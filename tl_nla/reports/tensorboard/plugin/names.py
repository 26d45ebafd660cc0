"""Names shared by writer and server, in a module of their own: the server must not import torch to know them."""

from pathlib import Path

PLUGIN_NAME = "tl_nla_contributions"
TAG_PREFIX = "contributions/"
STATIC = Path(__file__).parent / "static"
SHARED = (
    *("values", "dom", "report", "packed", "measures", "query", "scene", "legend", "strip", "grid", "overview", "list"),
    *("details", "theme", "link", "picker", "app"),
)
"""Modules of the view, each after those that it imports: the tab loads them, the HTML file holds them."""
STYLE = "index.css"
