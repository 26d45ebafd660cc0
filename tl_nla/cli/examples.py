"""What the command line says first: five things to do, and examples behind every command's help."""

import argparse
import shutil
import textwrap
from typing import Any

FIVE = (
    ("Look at a model through words", "tl-nla demo"),
    ("See what each layer and head contributed", 'tl-nla contributions "The kite was" --logdir runs'),
    ("Find out what can be trusted on your model", "tl-nla check --model FOLDER_OR_HUB_ID"),
    ("Steer by editing words", 'tl-nla steer "Tom had a red kite. The kite was" --rewrite "red->blue"'),
    ("Train a verbalizer", "tl-nla fit -c tiny_verbalizer.yaml"),
)

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "demo": (
        ("tl-nla demo", "the embedded model and a sentence of its world"),
        ('tl-nla demo "Lily had a blue drum. The drum was" --last 4', "the last four tokens of your sentence"),
        ("tl-nla demo --model FOLDER --nla AV AR --json rows.json", "your model and pair, rows kept as JSON"),
    ),
    "doctor": (
        ("tl-nla doctor", "versions, devices, TensorBoard and models of this machine"),
        ("tl-nla doctor --json machine.json", "the same for a bug report"),
    ),
    "check": (
        ("tl-nla check --model FOLDER --dtype bfloat16", "is your model exact in this precision?"),
        ("tl-nla check --nla AV AR --model FOLDER", "does a released pair read this model's layer?"),
    ),
    "verbalize": (
        ('tl-nla verbalize "Tom felt happy." --last 1', "a line of JSON for each token"),
        ("tl-nla verbalize < stories.txt --json states.json", "one text a line, rows in one file"),
        ('tl-nla verbalize "The capital of France" --model smollm2 --best-of 8', "keep the best of eight explanations"),
        ('tl-nla verbalize "The capital of France" --model smollm2 --beams 4', "search for the likeliest explanation"),
        ('tl-nla verbalize "The capital of France" --model smollm2 --sure 0.5', "leave out what it was unsure of"),
    ),
    "diff": (
        ("tl-nla diff", "what every head writes at the last token"),
        ('tl-nla diff "The kite was" --layer 2 --head 1', "one head"),
        ('tl-nla diff "The kite was" --span 1-3 --json span.json', "a span of layers, kept as JSON"),
    ),
    "steer": (
        ('tl-nla steer "Tom had a red kite. The kite was" --rewrite "red->blue"', "replace a word"),
        ('tl-nla steer "The kite was" --expect yellow --strength 0.5 1 2', "three strengths"),
    ),
    "contributions": (
        ('tl-nla contributions "The kite was" --target " red"', "the table"),
        ('tl-nla contributions "The kite was" --all-positions --logdir runs', "then: tensorboard --logdir runs"),
        ('tl-nla contributions "The kite was" --all-positions --html report.html', "one file for a browser"),
        ("tl-nla contributions --model FOLDER --dtype bfloat16 --json report.json", "your model, kept as JSON"),
        ("tl-nla contributions --model FOLDER --estimate 1000", "memory and passes, nothing is loaded"),
    ),
    "heads": (
        ("tl-nla heads", "every head of the embedded model"),
        ("tl-nla heads --model smollm2 --texts FILE --html heads.html --json heads.json", "a real model, as one page"),
    ),
    "fit-oracle": (
        ("tl-nla fit-oracle --model FOLDER --out my_oracle", "a first oracle of a small model, on stories"),
        ("tl-nla fit-oracle --model FOLDER --out my_oracle --texts stories.txt --steps 4000", "on your own text"),
    ),
    "fit": (
        ("tl-nla fit -c tiny_verbalizer.yaml", "a packaged configuration"),
        ("tl-nla fit -c my.yaml --trainer.max_steps 100 --json metrics.json", "your own, one setting changed"),
        ("tl-nla fit -c llama_8b_lora.yaml --estimate", "does it fit my GPU? nothing is loaded"),
    ),
    "validate": (("tl-nla validate -c my.yaml --ckpt_path last.ckpt --json metrics.json", "scores on held-out rows"),),
    "test": (("tl-nla test -c my.yaml --ckpt_path last.ckpt --json metrics.json", "scores on test rows"),),
    "predict": (("tl-nla predict -c tiny_capture.yaml", "states of documents, in shards"),),
    "evaluate": (
        ("tl-nla evaluate heads --model FOLDER --json scores.json", "trains an oracle with its controls and scores it"),
        ("tl-nla evaluate heads --markdown", "the table for a page"),
    ),
    "benchmark": (
        ("tl-nla benchmark --size tiny --json scores.json", "the embedded pair beside planted cheaters, in short"),
        ("tl-nla benchmark --nla AV AR --model FOLDER --texts FILE --markdown report.md", "your own pair"),
    ),
    "bench": (
        ("tl-nla bench", "fast paths beside the obvious way"),
        ("tl-nla bench --model FOLDER --json times.json", "reading and reports on your model"),
    ),
}


class Formatter(argparse.HelpFormatter):
    """Wraps descriptions to the terminal and leaves the lines of the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


def examples_of(command: str) -> str:
    """The examples of a command, a line each with what it does below; empty for a command without any."""
    width = max(shutil.get_terminal_size().columns, 30)
    lines = []
    for line, what in EXAMPLES.get(command, ()):
        lines += [f"  {line}", *textwrap.wrap(what, width, initial_indent="      ", subsequent_indent="      ")]
    return "\n".join(["examples:", *lines]) if lines else ""


def add_examples(subparsers: Any) -> None:
    """Put its examples behind the help of every command."""
    for command, parser in subparsers.choices.items():
        parser.formatter_class = Formatter
        parser.epilog = examples_of(command) or None


def overview() -> str:
    """What ``tl-nla`` alone shows: what it is for, and five things to do."""
    width = max(shutil.get_terminal_size().columns, 30)
    lines = textwrap.wrap("tl-nla says in words what a language model's activations and writes hold.", width)
    lines.append("")
    for number, (what, line) in enumerate(FIVE, 1):
        lines += [*textwrap.wrap(f"{number}. {what}", width, subsequent_indent="   "), f"     {line}"]
    rest = "tl-nla --help lists all commands, tl-nla COMMAND --help has examples, tl-nla doctor looks at this machine."
    return "\n".join([*lines, "", *textwrap.wrap(rest, width)]) + "\n"
