"""``python -m docs.corpus``: build the corpus of ``make corpus``."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from docs.corpus.build import build_corpus
from docs.corpus.kinds import packages
from docs.corpus.sampled import sample_documents
from tl_nla.errors import InputError
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.placement import Placement
from tl_nla.smollm2.machine import best_precision
from tl_nla.smollm2.weights import find_weights


def main() -> int:
    """Build, or name the packages to get first; the exit code is 2 where nothing can be built."""
    parser = argparse.ArgumentParser(prog="python -m docs.corpus", description=__doc__)
    parser.add_argument("--packages", type=Path, default=Path("corpus/packages"), help="folder of unpacked packages")
    parser.add_argument("--out", type=Path, default=Path("corpus"), help="folder for the corpus")
    parser.add_argument("--sampled", type=int, default=0, help="documents sampled from smollm2 itself (default none)")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    parser.add_argument("--list", choices=("debian", "pypi"), help="name the packages to get, and do nothing else")
    args = parser.parse_args()
    if args.list:
        sys.stdout.write(" ".join(packages(args.list)) + "\n")
        return 0
    try:
        summary = build_corpus(args.packages, args.out, sampled=_sampled(args.sampled, args.seed))
    except InputError as error:
        sys.stderr.write(f"tl-nla: {error}\n")
        return 2
    sys.stdout.write(json.dumps({"kinds": summary["kinds"], "missing": summary["missing"]}, indent=2) + "\n")
    return 0


def _sampled(count: int, seed: int) -> Iterable[str]:
    if not count:
        return ()
    folder = find_weights()
    model = load_causal_lm(folder, placement=Placement(best_precision()))
    return sample_documents(model, load_tokenizer(folder), count, seed=seed)


if __name__ == "__main__":
    sys.exit(main())
