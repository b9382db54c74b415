"""What a pack gains: steps a second of trials trained together, over trials one by one.

First flat packs, then packs whose step is compiled, which is done beforehand.

Both are this package's own trainers, on one core, taken in turn; the least time of each counts.

    python benchmarks/packing.py [rounds [models [batches]]]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from sweeper.code.importing import ModuleRef
from sweeper.records import COMPILED, PACKED
from sweeper.signature import encode
from sweeper.train.data.samples import Data, HeldSet
from sweeper.train.eager.trial import train_trial
from sweeper.train.packs.members import Member, most_members, shares
from sweeper.train.packs.trial import train_pack
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.streams import Streams
from sweeper.train.tuning.trials import Trial, Trials

SIGNATURE = "5e" * 32
PARAMS = encode(())
SIZES = (1, 2, 8, 32)
SAMPLES = 1024
STEPS = 512
BATCHES = (16, 32, 64, 128)

Make = Callable[[], nn.Module]


def dense(inputs: int, hidden: int, outputs: int, *inner: Make) -> Make:
    """A hidden layer, and modules after it."""
    return lambda: nn.Sequential(
        nn.Linear(inputs, hidden), *(module() for module in inner), nn.Linear(hidden, outputs)
    )


def conv(side: int, first: int, second: int) -> Make:
    """Two convolutions of pictures of one channel, each normalised and pooled."""
    return lambda: nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * (side // 4) ** 2, 10),
    )


def words(width: int) -> Make:
    """Words of a text, and a hidden layer over them."""
    return lambda: nn.Sequential(
        nn.Embedding(500, width),
        nn.Flatten(),
        nn.Linear(16 * width, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def block(width: int, dropout: float) -> Make:
    """Words of a text, and a transformer's block over them."""
    return lambda: nn.Sequential(
        nn.Embedding(500, width),
        nn.TransformerEncoderLayer(width, 4, 2 * width, dropout, batch_first=True),
        nn.Flatten(),
        nn.Linear(16 * width, 10),
    )


class TiedGpt(nn.Module):
    """Words of a text, a block that looks at earlier ones, and the embedding's weights again."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(100, 32)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=True, norm_first=True)
        self.head = nn.Linear(32, 100, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        """The next word after the last, shape (batch, words)."""
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        found: Tensor = self.head(self.block(self.words(x), src_mask=mask, is_causal=True)[:, -1])
        return found


class Tcn(nn.Module):
    """Dilated convolutions over a sequence, their weights normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            weight_norm(nn.Conv1d(inputs, 8, 3, padding=dilation, dilation=dilation))
            for inputs, dilation in ((4, 1), (8, 2), (8, 4))
        )
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of classes, shape (batch, 10)."""
        for part in self.parts:
            x = part(x).relu()
        found: Tensor = self.head(x.mean(2))
        return found


MODELS: dict[str, tuple[Make, tuple[int, ...], int, int]] = {
    "2-128-4": (dense(2, 128, 4, nn.Tanh), (2,), 4, 0),
    "64-32-10": (dense(64, 32, 10, nn.ReLU), (64,), 10, 0),
    "784-32-10": (dense(784, 32, 10, nn.ReLU), (784,), 10, 0),
    "784-64-10": (dense(784, 64, 10, nn.ReLU), (784,), 10, 0),
    "784-128-10": (dense(784, 128, 10, nn.ReLU), (784,), 10, 0),
    "dropout": (dense(64, 128, 10, nn.ReLU, nn.Dropout), (64,), 10, 0),
    "norm": (dense(64, 64, 10, lambda: nn.BatchNorm1d(64), nn.ReLU), (64,), 10, 0),
    "conv 8x8": (conv(8, 8, 16), (1, 8, 8), 10, 0),
    "conv 28x28": (conv(28, 8, 16), (1, 28, 28), 10, 0),
    "words": (words(16), (16,), 10, 500),
    "block 32": (block(32, 0.0), (16,), 10, 500),
    "block 32 d": (block(32, 0.1), (16,), 10, 500),
    "block 64": (block(64, 0.0), (16,), 10, 500),
    "gpt tied": (TiedGpt, (16,), 100, 100),
    "tcn": (Tcn, (4, 32), 10, 0),
    "bce": (dense(64, 32, 10, nn.ReLU), (64,), 10, 0),
}
"""By name: the model, the shape of a sample, the number of classes, and of different words."""


def setup(name: str, batch: int) -> tuple[Problem, Data, Trial]:
    """A problem of random data, and a trial of it."""
    make, shape, outputs, different = MODELS[name]
    module = ModuleType("packing")
    module.model = make
    several = name == "bce"
    module.dataset = lambda: None
    module.loss = nn.BCEWithLogitsLoss if several else nn.CrossEntropyLoss
    module.accuracy_style = "multiclass" if several else "classification"
    x = torch.randn(SAMPLES, *shape)
    if different:
        x = torch.randint(different, (SAMPLES, *shape))
    y = torch.randint(0, outputs, (SAMPLES,))
    if several:
        y = nn.functional.one_hot(y, outputs).float()
    data = Data(HeldSet(x, y), HeldSet(x[:8], y[:8]))
    each = SAMPLES // batch
    epochs = max(1, STEPS // each)
    told = Trial(1e-3, 1e-2, batch, cycle_epochs=epochs, cycles=1, steps=epochs * each)
    return Problem(ModuleRef("packing", "packing"), module), data, told


def seconds(work: Callable[[], object]) -> float:
    """Of the core: others on the machine do not count."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def measure(name: str, batch: int, rounds: int) -> str:
    """A line of the table."""
    problem, data, told = setup(name, batch)
    streams = [Streams(0, SIGNATURE, "trial", number) for number in range(max(SIZES))]

    def eager() -> None:
        train_trial(problem, data, streams[0], PARAMS, told, 0, Path("unused"))

    def packed(mode: str, size: int) -> None:
        made = [Member.make(problem, data, one, PARAMS, batch) for one in streams[:size]]
        for share in shares(made, most_members(made[0], mode)):
            list(train_pack(problem, data, share, Trials(told), 0, mode))

    packed(COMPILED, 1)
    cases = [(mode, size) for mode in (PACKED, COMPILED) for size in SIZES]
    alone: list[float] = []
    together: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            alone.append(seconds(eager))
            together[case].append(seconds(lambda case=case: packed(*case)))
    least = min(alone)
    gains = "".join(f"{case[1] * least / min(together[case]):8.2f}" for case in cases)
    trace = Member.make(problem, data, streams[0], PARAMS, batch).trace
    step = f"{trace.products / 1e6:8.2f} {trace.numbers / 1e3:8.0f} {len(trace.operations):6}"
    return f"{name:>12} {batch:6} {step} {least / told.steps * 1e6:8.0f} {gains}"


def main() -> None:
    """Print the table."""
    os.environ.setdefault("MKL_CBWR", "AUTO")  # as in a worker
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    names = sys.argv[2].split(",") if len(sys.argv) > 2 else list(MODELS)
    batches = [int(batch) for batch in sys.argv[3].split(",")] if len(sys.argv) > 3 else BATCHES
    sizes = "".join(f"{size:8}" for size in (*SIZES, *SIZES))
    print(
        f"{'model':>12} {'batch':>6} {'10^6 ×':>8} {'10^3':>8} {'ops':>6} {'eager µs':>8} {sizes}"
    )
    for name in names:
        for batch in batches:
            print(measure(name, batch, rounds), flush=True)


if __name__ == "__main__":
    main()
