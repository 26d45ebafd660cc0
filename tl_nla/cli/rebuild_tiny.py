"""``tl-nla rebuild-tiny``: remakes the embedded default from its seeds."""

import argparse
from dataclasses import replace
from pathlib import Path

from tl_nla.errors import unknown

_PARTS = ("target", "nla", "seeds", "oracle", "arms", "answers", "untrained", "longer", "plateau", "contributions")


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import output_folder

    parser = subparsers.add_parser("rebuild-tiny", help="train the embedded target and its NLA again")
    parser.add_argument(
        "--out", type=output_folder, default=None, metavar="DIR", help="folder (default: the package's own weights)"
    )
    parser.add_argument(
        "--parts", nargs="+", default=["target", "nla"], metavar="PART",
        help="target, nla (seed 0 and its cat reader), seeds (row scores of seeds 1 and 2), "
        "oracle (with the readers of its controls, each of --seeds), arms (readers of controls that "
        "the stored rows of --seeds lack), answers (asks the shipped oracle for lists of words again), "
        "untrained (an oracle that a quarter of the heads is kept from, each of --seeds), "
        "longer (readers of words and of raw context for heads only, trained several times longer, seed 0), "
        "plateau (a network on the model's own run on raw context, with words and without, each of --seeds), "
        "contributions (words-only recovery, three seeds)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N",
        help="seeds of parts oracle, arms, untrained and plateau: of 0 the oracle's weights are kept, of each the row "
        "scores (default: 0 1 2)",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=output_folder, default=None, metavar="DIR",
        help="keep trained pieces of oracles and readers here; the same command goes on from them when interrupted",
    )  # fmt: skip
    parser.add_argument(
        "--precision", default="highest", metavar="P",
        help="matrix products of oracles and readers: highest (default), high or medium",
    )  # fmt: skip
    parser.add_argument(
        "--device", default="cpu", metavar="NAME",
        help="what oracles and readers are trained on: cpu (default), or cuda",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="a few steps of everything: a test of the path, not of quality"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train the parts in order; each is written when it is done."""
    for part in args.parts:
        if part not in _PARTS:
            raise unknown("part", part, _PARTS)
    import torch

    from lightning_modules.rebuild import RebuildConfig, rebuild_nla, rebuild_target
    from tl_nla.storyworld.tiny import WEIGHTS

    torch.set_num_threads(1)
    folder = args.out or WEIGHTS
    config = RebuildConfig()
    if args.quick:
        config = RebuildConfig(target_steps=3, documents=60, positions=3, reconstructor_steps=2, verbalizer_steps=2)
    if "target" in args.parts:
        rebuild_target(folder / "target", config)
    if "nla" in args.parts:
        rebuild_nla(folder, config, 0)
    if "seeds" in args.parts:
        for seed in (1, 2):
            rebuild_nla(folder, config, seed)
    if {"oracle", "arms", "untrained", "longer", "plateau"} & set(args.parts):
        _oracles(args, folder)
    if "answers" in args.parts:
        _answers(folder)
    if "contributions" in args.parts:
        from lightning_modules.words_only import QUICK, WordsOnlyConfig, rebuild_recoveries

        rebuild_recoveries(config=QUICK if args.quick else WordsOnlyConfig(), folder=folder)
    return 0


def _oracles(args: argparse.Namespace, folder: Path) -> None:
    from lightning_modules.longer_arms import LONGER, train_longer
    from lightning_modules.missing_arms import add_missing_arms
    from lightning_modules.oracle_data import QUICK, OracleConfig
    from lightning_modules.plateau import QUICK_PLATEAU, PlateauConfig, train_plateau
    from lightning_modules.rebuild import load_rebuilt
    from lightning_modules.rebuild_oracle import rebuild_oracle
    from lightning_modules.untrained_heads import WITHOUT_HEADS, train_without_heads

    target, quick = load_rebuilt(folder / "target"), args.quick
    usual, without = (QUICK, QUICK) if quick else (OracleConfig(), WITHOUT_HEADS)
    parts = (
        ("oracle", rebuild_oracle, usual),
        ("arms", add_missing_arms, usual),
        ("untrained", train_without_heads, without),
    )
    how = {"precision": args.precision, "device": args.device}
    for part, train, config in parts:
        for seed in args.seeds if part in args.parts else ():
            train(folder, replace(config, **how), seed, target, args.keep)
    for seed in args.seeds if "plateau" in args.parts else ():
        network = QUICK_PLATEAU if quick else PlateauConfig()
        train_plateau(folder, replace(usual, **how), seed, target, args.keep, network)
    if "longer" in args.parts:
        longer = replace(QUICK, own_steps=0, kinds=LONGER.kinds, arms=LONGER.arms) if quick else LONGER
        train_longer(folder, replace(longer, **how), target, args.keep)


def _answers(folder: Path) -> None:
    from lightning_modules.oracle_data import OracleConfig
    from lightning_modules.rebuild import load_rebuilt
    from lightning_modules.rebuild_oracle import STORED_ROWS
    from tl_nla.data import world_documents
    from tl_nla.evaluation.oracle_rows import load_rows, save_rows
    from tl_nla.evaluation.rescore import rescore_lists
    from tl_nla.oracle import DiffOracle
    from tl_nla.oracle.labels.expected import DOCUMENTS, expected_vocabulary
    from tl_nla.storyworld.corpus import HELD_OUT_SEED

    parts = load_rows(folder / STORED_ROWS)
    target, oracle = load_rebuilt(folder / "target"), DiffOracle.from_pretrained(folder / "oracle")
    for rows in parts:
        if rows.seed == 0:
            documents = world_documents(int(rows.document.max()) + 1, HELD_OUT_SEED)
            model, tokenizer = target.model, target.tokenizer
            named = expected_vocabulary(model, tokenizer, world_documents(DOCUMENTS, rows.seed))
            top_k = OracleConfig().top_k
            rescore_lists(rows, oracle, model, tokenizer, documents, named, top_k)
    save_rows(parts, folder / STORED_ROWS)
