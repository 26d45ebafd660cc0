"""What a report of 256 tokens of SmolLM2 takes beside the model, in this process alone.

``TL_NLA_SMOLLM2=FOLDER PYTHONPATH=. python -m tests.benchmarks.report_memory float32 1`` tells MiB for a precision and
a number of positions: by the peak of the process, and of the tensors in a second report.
"""

import re
import sys
from pathlib import Path

import torch

import tl_nla
from tl_nla.benchmark.peak_memory import peak_megabytes
from tl_nla.reports import layer_contributions

LENGTH = 256


def memory(name: str) -> float:
    """A line of this process's status (Linux), in MiB."""
    found = re.search(rf"{name}:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def main(dtype: str, count: str) -> None:
    """Measure and tell."""
    torch.set_num_threads(1)
    model = tl_nla.load("smollm2", dtype=dtype)
    tokens = torch.randint(10, 20_000, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    positions = list(range(LENGTH - int(count), LENGTH))
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    layer_contributions(model, tokens, positions=positions)
    process = memory("VmHWM") - before
    tensors = peak_megabytes(lambda: layer_contributions(model, tokens, positions=positions), model)
    sys.stdout.write(f"{dtype}, {count} positions: process {process:.0f} MiB, tensors {tensors:.0f} MiB\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
