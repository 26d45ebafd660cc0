"""What the README shows, on the package as ``pip install`` brings it, without extras. ``make test-plain`` runs it.

It runs in an environment without pytest, as a script: ``python -I tests/plain_install.py README.md``.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

EXTRAS = ("matplotlib", "peft", "jsonargparse", "pytest")


def check(condition: object, what: str) -> None:
    """Stop with a line when something does not hold."""
    if not condition:
        raise SystemExit(f"plain install: {what}")


def run(command: list[str], folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder that is not the checkout, and show all it said when it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    check(done.returncode == code, f"{command[:3]} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def blocks(page: str, language: str) -> list[str]:
    """The page's code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def check_environment() -> None:
    """No extra is installed, and the package is the installed one."""
    found = [name for name in EXTRAS if importlib.util.find_spec(name)]
    check(not found, f"{found} are there, so this is no installation without extras")
    for package in ("tl_nla", "lightning_modules"):
        spec = importlib.util.find_spec(package)
        check(spec and "site-packages" in str(spec.origin), f"{package} is not installed, but {spec}")


def check_runs(folder: Path, names: set[str]) -> None:
    """Each report is a run of its own, with the tab's data and the table, without pictures."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {str(path.parent.relative_to(folder)) for path in folder.rglob("events.out.tfevents.*")}
    check(found == names, f"runs are {sorted(found)}, not {sorted(names)}")
    for name in names:
        events = EventAccumulator(str(folder / name))
        events.Reload()
        tags = events.Tags()
        check({"contributions/prompt", "contributions/prompt/table/0/text_summary"} <= set(tags["tensors"]), f"{tags}")
        check("contributions/prompt/target" in tags["scalars"] and not tags["images"], f"{tags}")


def main() -> None:
    """Run the README's three uses and its commands."""
    page = Path(sys.argv[1]).read_text(encoding="utf-8")
    check_environment()
    uses = blocks(page, "python")
    check(len(uses) >= 3, f"the README has {len(uses)} pieces of Python, fewer than its three uses")
    commands = [line for block in blocks(page, "bash") for line in block.splitlines() if line.startswith("tl-nla ")]
    check(any("--logdir" in line for line in commands), f"the README's commands are {commands}")
    tool = Path(sys.executable).with_name("tl-nla")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "uses.py").write_text("\n\n".join(uses), encoding="utf-8")
        done = run([sys.executable, "uses.py"], folder)
        check(done.stderr.count("without heat maps") == 1, f"nothing says that heat maps are missing:\n{done.stderr}")
        for line in commands * 2:
            done = run(["bash", "-c", line.replace("tl-nla", str(tool), 1)], folder)
            check("without heat maps" in done.stdout and not done.stderr, f"{done.stdout}\n{done.stderr}")
        check_runs(folder / "runs", {"contributions", "contributions_1", "contributions_2"})
        told = run([str(tool), "contributions", "Tom was", "--figures", "pictures"], folder, 2).stderr
        check("matplotlib" in told and told.count("\n") == 1, told)
        told = run([str(tool), "fit", "-c", "tiny_reconstructor.yaml"], folder, 2).stderr
        check("pip install 'tl-nla[cli]'" in told and told.count("\n") == 1, told)
        run([str(tool), "demo"], folder)
    sys.stdout.write("what the README shows works without extras\n")


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)  # the installed package, not the checkout
    main()
