"""Sets the tests up: no network, annotations checked, the fixtures of ``tests.fixtures``.

Nothing heavy is imported at the top: the process that only hands tests out to its workers never needs it.
``tl_nla`` must not be imported before the check of annotations is in place.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")


def pytest_addoption(parser):
    parser.addoption("--check-annotations", default="", help="packages whose annotations are checked, with commas")


def pytest_configure(config):
    hands_out = bool(config.getoption("numprocesses", None)) and not hasattr(config, "workerinput")
    if hands_out:
        return
    if packages := config.getoption("--check-annotations"):
        from tests import annotations

        annotations.install(packages.split(","))
    config.pluginmanager.import_plugin("tests.fixtures")


def pytest_collection_modifyitems(items):
    """Files with slow tests first, so that nobody waits for one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
