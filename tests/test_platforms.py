"""Windows and macOS are not broken by construction: no POSIX-only calls, and files say their encoding."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*ROOT.glob("tl_nla/**/*.py"), *ROOT.glob("lightning_modules/**/*.py")])
POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_OS = {"chown", "fork", "geteuid", "getloadavg", "getuid", "killpg", "mkfifo", "nice", "sched_getaffinity",
            "setsid", "statvfs", "sysconf", "uname", "wait", "waitpid"}  # fmt: skip
GUARDED = {("tl_nla/benchmark/machine.py", "sysconf")}  # behind hasattr


def posix_only(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & POSIX_MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} & POSIX_MODULES
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            found |= {node.attr} & POSIX_OS
        elif isinstance(node, ast.Attribute) and node.attr in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGALRM"):
            found.add(node.attr)
    return found


def without_encoding(tree: ast.Module) -> list[int]:
    """Lines that open a text file in whatever encoding the system prefers."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        module = isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and node.func.value.id
        if name not in ("open", "read_text", "fdopen") or (module == "os" and name == "open"):
            continue
        texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        binary = any("b" in text and len(text) <= 3 for text in texts)
        told = (
            binary or (name == "read_text" and texts) or any(word.arg in ("encoding", None) for word in node.keywords)
        )
        lines += [] if told else [node.lineno]
    return lines


@pytest.fixture(scope="module")
def trees():
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def test_no_posix_only_calls(trees):
    found = {(name, call) for name, tree in trees.items() for call in posix_only(tree)}
    assert found - GUARDED == set()
    assert found >= GUARDED
    assert posix_only(ast.parse("import os, fcntl\nos.fork()\nsignal.SIGKILL")) == {"fcntl", "fork", "SIGKILL"}


def test_text_files_say_their_encoding(trees):
    found = {f"{name}:{line}" for name, tree in trees.items() for line in without_encoding(tree)}
    assert not found
    assert without_encoding(ast.parse("open('x')\nopen('x', 'rb')\npath.read_text()")) == [1, 3]
