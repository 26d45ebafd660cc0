"""What CONTRIBUTING says of sizes holds: files, functions, parameters, fields of settings."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = sorted(path for top in ("tl_nla", "lightning_modules", "docs") for path in (ROOT / top).rglob("*.py"))
LINES, FUNCTION_LINES, PARAMETERS, FIELDS = 400, 60, 7, 12

# Nobody fills these in: code writes them whole, and other code reads single fields.
RECORDS = {
    "Cell": "a row of a report; its fields are the columns of the report's file",
    "ContributionReport": "a report; its fields are the entries of the report's file",
    "Meta": "what a released folder's sidecar says, an attribute a key",
    "CleanRun": "the tensors of one forward pass, handed on between the parts of a report",
}


def too_large(path: Path, source: str) -> list[str]:
    """What of a module is larger than it may be."""
    found = [f"{path}: {source.count(chr(10))} lines"] if source.count("\n") > LINES else []
    for node in ast.walk(ast.parse(source)):
        where = f"{path}: {getattr(node, 'name', '')}"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            named = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len([name for name in named if name not in ("self", "cls")])
            found += [f"{where} takes {count} parameters"] if count > PARAMETERS else []
            length = node.end_lineno - node.lineno
            found += [f"{where} has {length} lines"] if length > FUNCTION_LINES else []
        elif isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(one) for one in node.decorator_list):
            fields = sum(isinstance(one, ast.AnnAssign) for one in node.body)
            found += [f"{where} has {fields} fields"] if fields > FIELDS and node.name not in RECORDS else []
    return found


def test_sizes():
    assert [line for path in FILES for line in too_large(path.relative_to(ROOT), path.read_text("utf-8"))] == []


def test_what_is_too_large_is_found():
    fields = "\n".join(f"    f{n}: int" for n in range(FIELDS + 1))
    wide = ", ".join(f"a{n}" for n in range(PARAMETERS + 1))
    body = "    pass\n" * FUNCTION_LINES
    source = f"@dataclass(frozen=True)\nclass Large:\n{fields}\n\ndef wide({wide}):\n    pass\n\n"
    source += f"def long():\n{body}    pass\n"
    assert too_large(Path("m.py"), source) == [
        "m.py: Large has 13 fields", "m.py: wide takes 8 parameters", "m.py: long has 61 lines"
    ]  # fmt: skip
    assert too_large(Path("m.py"), "\n" * (LINES + 1)) == ["m.py: 401 lines"]
    assert too_large(Path("m.py"), source.replace("class Large", "class Cell"))[0] == "m.py: wide takes 8 parameters"
