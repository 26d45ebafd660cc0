"""Rows of suite ``faithfulness`` of pairs of other seeds, stored for the suite.

python -m lightning_modules.faithfulness_seeds PAIRS --seed 1 --warm 1000
"""

import argparse
from collections.abc import Sequence

from lightning_modules.warm_pairs import SHIPPED, WarmPairs
from tl_nla.evaluation.faithfulness_seeds import store_rows
from tl_nla.evaluation.faithfulness_suite import measure_pair
from tl_nla.paths import user_path


def main(argv: Sequence[str] | None = None) -> None:
    """Run the module's command."""
    parser = argparse.ArgumentParser(prog="python -m lightning_modules.faithfulness_seeds")
    parser.add_argument("pairs", type=user_path, help="folder of warm-started pairs; missing ones are trained")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--warm", type=int, default=SHIPPED[1], help="length of the warm start")
    found = parser.parse_args(argv)
    pairs = WarmPairs(found.pairs)
    pairs.load(found.seed, found.warm)
    folder = pairs.path(found.seed, found.warm)
    results = measure_pair([str(folder / "av"), str(folder / "ar")], curves=False)
    store_rows(results.rows, found.seed)


if __name__ == "__main__":
    main()
