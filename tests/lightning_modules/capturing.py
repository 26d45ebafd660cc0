"""The same capture whole, killed and continued, and by two processes."""

import random
import time
import warnings
from pathlib import Path

import lightning as L
import torch

from lightning_modules.data.documents import DocumentDataModule
from lightning_modules.data.kept_states import StateReader
from lightning_modules.training.capture import ActivationCapture
from tests import zoo
from tests.lightning_modules.forks import as_processes, in_a_fork, kill, wait
from tests.lightning_modules.grouping import made
from tl_nla.data import Document

SITE = "blocks.1.hook_resid_post"


def documents(count=60):
    chance = random.Random(4)
    words = [
        " ".join(f"w{chance.randrange(4, zoo.VOCAB)}" for _ in range(chance.randrange(3, 30))) for _ in range(count)
    ]
    return [Document(f"d/{number}", text) for number, text in enumerate(words)]


def data(**settings):
    return DocumentDataModule(**{"source": documents(), "documents_per_shard": 5, "heldout": 0.3, **settings})


def capture(folder, model, processes=1, started=None, documents=None, **settings):
    module = made(
        ActivationCapture, str(folder), model, zoo.tokenizer(), SITE, positions_per_document=4, batch_size=3, **settings
    )
    if started is not None:
        read, seen = StateReader._side, []

        def slow(reader, side):
            seen.append(side)
            if len(seen) > 2:  # both sides of the first run of documents are read
                started.touch()
            # A few more are read quickly; then it is slow enough for the kill to come first on any machine.
            time.sleep(0.02 if len(seen) < 7 else 20)
            return read(reader, side)

        StateReader._side = slow  # in a process of its own
    trainer = L.Trainer(accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
                        logger=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.predict(module, datamodule=documents or data(), return_predictions=False)
    return module


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def main(folder: Path, kills: int) -> dict:
    """What became of so many kills; for a process in which forks are safe."""
    torch.set_num_threads(1)
    model = zoo.bridge("llama")
    names = ("whole", "killed", "both")
    whole, killed, both = (folder / name for name in names)
    done = wait([in_a_fork(lambda: capture(whole, model))])
    chance, died, partial = random.Random(0), 0, []
    started = folder / "started"
    for _ in range(kills):
        started.unlink(missing_ok=True)
        died += kill([in_a_fork(lambda: capture(killed, model, started=started))], started, chance.uniform(0, 0.3))
        partial.append(len(list(killed.glob("shard-*"))))
    # What was begun by one process is gone on with by two.
    done &= wait(as_processes(2, lambda: capture(killed, model, 2)))
    done &= wait(as_processes(2, lambda: capture(both, model, 2)))
    expected = contents(whole)
    equal = [contents(other) == expected for other in (killed, both)]
    return {"done": done, "kills": died, "shards": partial, "equal": equal}
