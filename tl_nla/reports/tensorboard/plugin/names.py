"""Names shared by writer and server, in a module of their own: the server must not import torch to know them."""

from pathlib import Path

PLUGIN_NAME = "tl_nla_contributions"
TAG_PREFIX = "contributions/"
SAMPLES_FLAG = f"--samples_per_plugin {PLUGIN_NAME}=1000"
"""TensorBoard keeps a sample of the steps of every tag; this option of its command line makes it keep more."""
STATIC = Path(__file__).parent / "static"
SHARED = (
    *("values", "dom", "report", "packed", "measures", "query", "scene", "legend", "strip", "grid", "overview", "list"),
    *("details", "theme", "link", "picker", "app"),
)
"""Modules of the view, each after those that it imports: the tab loads them, the HTML file holds them."""
STYLE = "index.css"
