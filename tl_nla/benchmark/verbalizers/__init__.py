"""A benchmark of anything that tells vectors in words: controls first, a blind reader, planted cheaters.

:mod:`tl_nla.benchmark.verbalizers.tasks` holds the tasks, ``controls`` what has to be beaten, ``readers`` who reads the
words without seeing anything else.
"""

from tl_nla._lazy import lazy

_HOMES = {
    "Arm": "tl_nla.benchmark.verbalizers.words",
    "Benchmark": "tl_nla.benchmark.verbalizers.run",
    "BenchmarkConfig": "tl_nla.benchmark.verbalizers.config",
    "BlindReader": "tl_nla.benchmark.verbalizers.readers.base",
    "Outcome": "tl_nla.benchmark.verbalizers.runner",
    "PlantedFact": "tl_nla.benchmark.verbalizers.tasks.planted",
    "Sizes": "tl_nla.benchmark.verbalizers.subject",
    "Task": "tl_nla.benchmark.verbalizers.tasks.base",
    "Verbalizer": "tl_nla.benchmark.verbalizers.verbalizer",
    "as_verbalizer": "tl_nla.benchmark.verbalizers.verbalizer",
    "leaderboard": "tl_nla.benchmark.verbalizers.leaderboard",
    "headline": "tl_nla.benchmark.verbalizers.headline",
    "log_outcome": "tl_nla.benchmark.verbalizers.page",
    "run_benchmark": "tl_nla.benchmark.verbalizers.run",
    "to_html": "tl_nla.benchmark.verbalizers.page",
    "to_markdown": "tl_nla.benchmark.verbalizers.report",
    "to_results": "tl_nla.benchmark.verbalizers.report",
}

__all__ = sorted(_HOMES)
__getattr__ = lazy(__name__, _HOMES)
