"""Plain English, measured: sentence lengths of pages, docstrings, errors and help texts, and words that are avoided.

``make lint`` runs ``python -m tests.english``. ``--worst 20`` shows the longest sentences of every page instead.
Code, tables, headings and addresses are left out. A sentence ends at a full stop, at a list item and at a blank line.
"""

import argparse
import ast
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
GLOSSARY = ROOT / "docs" / "glossary.md"
MOST_WORDS = 25
SHARE = 0.95
PACKAGES = ("tl_nla", "lightning_modules", "docs")
ABBREVIATIONS = ("e.g.", "i.e.", "cf.", "vs.", "approx.", "et al.")

INDENTED = re.compile(r"(?<=\n)\n( {4,}(?![-*+] |\d+\. ).*\n)+(?=\n|$)")
FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$", re.DOTALL | re.MULTILINE)
LEFT_OUT = re.compile(r"<!--.*?-->|\$\$.*?\$\$|<[^<>\n]+>|!\[[^\]]*\]\([^)]*\)", re.DOTALL)
NO_PROSE = re.compile(r"^ *(\||#|---|===|!!!|\?\?\?|:::|\[[^\]]+\]:|>>>|\.\.\. |\w+:$)")
ITEM = re.compile(r"^\s*([-*+]|\d+\.)\s+")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
END = re.compile(r"""(?<=[.!?])["”»)*_]*\s+(?=["“«(*_`]*[A-Z0-9ÄÖÜ`])""")
WORD = re.compile(r"[^\W_][\w'’.,/%^-]*", re.UNICODE)
FIELD = re.compile(r"^\s*(\*{0,2}[\w.]+(, \*{0,2}[\w.]+)*( \([^)]*\))?|[A-Z]\w*(Error|Interrupt|Warning)?):\s")


def sentences(markdown: str) -> list[str]:
    """Sentences of a page or docstring, without code and tables."""
    text = LEFT_OUT.sub(" ", INDENTED.sub("\n", FENCE.sub("\n\n", markdown)))
    found: list[str] = []
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        starts = bool(ITEM.match(line) or FIELD.match(line))
        if not line.strip() or NO_PROSE.match(line) or starts:
            found += _split(" ".join(block))
            block = []
        if line.strip() and not NO_PROSE.match(line):
            block.append(FIELD.sub("", ITEM.sub("", line)).strip() if starts else line.strip())
    return [one for one in found + _split(" ".join(block)) if words(one)]


def _split(block: str) -> list[str]:
    text = LINK.sub(r"\1", block)
    text = re.sub(r"``[^`]+``|`[^`]*`", "`code`", text)
    for short in ABBREVIATIONS:
        text = text.replace(short, short.rstrip("."))
    return END.split(text)


def words(sentence: str) -> int:
    """Number of words; a piece of code is one, a sign is none."""
    return len(WORD.findall(sentence))


def length(found: list[str]) -> int:
    """Length that ``SHARE`` of the sentences do not exceed."""
    lengths = sorted(words(one) for one in found)
    return lengths[math.ceil(SHARE * len(lengths)) - 1] if lengths else 0


def docstrings(path: Path) -> str:
    """Every docstring of a module, one behind the other, indentation taken off."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return "\n\n".join(one for one in found if one)


def messages(path: Path) -> list[str]:
    """What a module says while it runs: the texts of its errors, and of the help on the command line."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found += [_literal(one) for one in node.exc.args]
        elif isinstance(node, ast.Call):
            found += [_literal(one.value) for one in node.keywords if one.arg in ("help", "description", "epilog")]
    return [one for one in found if one.count(" ") > 1]


def _literal(node: ast.AST) -> str:
    """A text as it is written in the code; what is filled in counts as one word."""
    if isinstance(node, ast.Constant):
        return re.sub(r"%\(\w+\)s", "X", str(node.value)) if isinstance(node.value, str) else "X"
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_literal, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _literal(node.left) + _literal(node.right)
    if isinstance(node, ast.IfExp):
        return max(_literal(node.body), _literal(node.orelse), key=len)
    return "X"


def pages() -> list[Path]:
    """Every page that people read."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def texts() -> Iterator[tuple[str, str]]:
    """Name and text of every page and of the docstrings of every module."""
    for page in pages():
        yield str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), docstrings(path)


def avoided() -> dict[str, str]:
    """Avoided word -> what to write instead, from the glossary's table of that name."""
    text = GLOSSARY.read_text(encoding="utf-8").partition("## Words that we avoid")[2]
    rows = re.findall(r"^\| (?!avoid|-)([^|]+?) \| ([^|]+?) \|", text, re.MULTILINE)
    return {one.strip(): instead for words_, instead in rows for one in words_.split(",")}


def long_messages(name: str, said: list[str], banned: dict[str, str]) -> list[str]:
    """What is wrong with errors and help texts: every sentence counts, since each is read by itself."""
    found = [sentence for message in said for sentence in sentences(message)]
    told = [f"{name}: {words(one)} words in a message; allowed are {MOST_WORDS}: {one}" for one in found
            if words(one) > MOST_WORDS]  # fmt: skip
    return told + [line for line in complaints(name, "\n\n".join(said), banned) if "is avoided" in line]


def complaints(name: str, text: str, banned: dict[str, str]) -> list[str]:
    """What is wrong with a page: too long sentences, avoided words."""
    found = sentences(text)
    told = []
    if length(found) > MOST_WORDS:
        longest = max(found, key=words)
        told.append(
            f"{name}: 95% of the sentences have up to {length(found)} words; allowed are {MOST_WORDS}. "
            f"The longest has {words(longest)}: {longest[:100]}"
        )
    if name != str(GLOSSARY.relative_to(ROOT)):
        whole = " ".join(found).lower()
        told += [
            f"{name}: {word!r} is avoided; write {instead}"
            for word, instead in banned.items()
            if re.search(rf"(?<!\w){re.escape(word.lower())}(?!\w)", whole)
        ]
    return told


def main() -> int:
    """Tell what is wrong, or with ``--worst N`` the N longest sentences of each page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worst", type=int, default=0)
    parser.add_argument("names", nargs="*", help="only pages whose name contains one of these")
    args = parser.parse_args()
    chosen = [(name, text) for name, text in texts() if not args.names or any(one in name for one in args.names)]
    banned = avoided() if GLOSSARY.exists() else {}
    told = [line for name, text in chosen for line in complaints(name, text, banned)]
    modules = {name: messages(ROOT / name) for name, _ in chosen if name.endswith(".py")}
    told += [line for name, said in modules.items() for line in long_messages(name, said, banned)]
    if args.worst:
        for name, text in sorted(chosen, key=lambda one: -length(sentences(one[1]))):
            found = sorted(sentences(text), key=words, reverse=True)
            sys.stdout.write(f"{length(found):4d} {len(found):4d} {name}\n")
            for one in found[: args.worst]:
                if words(one) > MOST_WORDS:
                    sys.stdout.write(f"       {words(one)}: {one}\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in told))
        sys.stdout.write(
            f"{len(chosen)} pages and modules read, {sum(map(len, modules.values()))} messages of theirs, "
            f"{len(told)} complaints\n"
        )
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main())
