"""What a pack gains: steps a second of trials trained together, over trials one by one.

First flat packs, then packs whose step is compiled, which is done beforehand.

Both are this package's own trainers, on one core, taken in turn; the least time of each counts.

    python benchmarks/packing.py [rounds]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from sweeper.signature import encode
from sweeper.train.data import Data, HeldSet
from sweeper.train.loading import ProblemRef
from sweeper.train.packed import Member, most_members, train_pack
from sweeper.train.plan import COMPILED, FLAT
from sweeper.train.problem import Problem
from sweeper.train.streams import Streams
from sweeper.train.trainer import train_trial

SIGNATURE = "5e" * 32
SIZES = (1, 2, 8, 32)
SAMPLES = 1024
STEPS = 512

MODELS = {
    "2-128-4": (2, 128, 4, nn.Tanh),
    "64-32-10": (64, 32, 10, nn.ReLU),
    "784-32-10": (784, 32, 10, nn.ReLU),
    "784-64-10": (784, 64, 10, nn.ReLU),
    "784-128-10": (784, 128, 10, nn.ReLU),
}


def setup(
    inputs: int, hidden: int, outputs: int, activation: type[nn.Module], batch: int
) -> tuple[Problem, Data, dict[str, Any]]:
    """A problem of random data, and a trial of it."""
    module = ModuleType("packing")
    module.model = lambda: nn.Sequential(
        nn.Linear(inputs, hidden), activation(), nn.Linear(hidden, outputs)
    )
    module.dataset, module.loss = (lambda: None), nn.CrossEntropyLoss
    module.accuracy_style = "classification"
    x, y = torch.randn(SAMPLES, inputs), torch.randint(0, outputs, (SAMPLES,))
    data = Data(HeldSet(x, y), HeldSet(x[:8], y[:8]))
    each = SAMPLES // batch
    epochs = max(1, STEPS // each)
    payload = {
        "lr_start": 1e-3,
        "lr_end": 1e-2,
        "batch_size": batch,
        "cycle_epochs": epochs,
        "cycles": 1,
        "steps": epochs * each,
        "params": encode(()),
    }
    return Problem(ProblemRef("packing", "packing"), module), data, payload


def seconds(work: Callable[[], object]) -> float:
    """Of the core: others on the machine do not count."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(name: str, batch: int, rounds: int) -> str:
    """A line of the table."""
    problem, data, payload = setup(*MODELS[name], batch)
    streams = [Streams(0, SIGNATURE, "trial", number) for number in range(max(SIZES))]

    def plain() -> None:
        train_trial(problem, data, streams[0], payload, 0, Path("unused"))

    def packed(way: str, size: int) -> None:
        made = [Member.make(problem, data, one, payload) for one in streams[:size]]
        most = most_members(made[0].tape, 0, way)
        for first in range(0, size, most):
            some = made[first : first + most]
            list(train_pack(problem, data, some, {**payload, "way": way}, 0))

    packed(COMPILED, 1)
    cases = [(way, size) for way in (FLAT, COMPILED) for size in SIZES]
    alone: list[float] = []
    together: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            alone.append(seconds(plain))
            together[case].append(seconds(lambda case=case: packed(*case)))
    least = min(alone)
    gains = "".join(f"{case[1] * least / min(together[case]):8.2f}" for case in cases)
    inputs, hidden, outputs, _ = MODELS[name]
    # What the weights' gradients and outputs take, and the inner gradient.
    products = batch * (2 * inputs * hidden + 3 * hidden * outputs) / 1e6
    return f"{name:>12} {batch:6} {products:8.2f} {least / payload['steps'] * 1e6:8.0f} {gains}"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    sizes = "".join(f"{size:8}" for size in (*SIZES, *SIZES))
    print(f"{'model':>12} {'batch':>6} {'10^6 ×':>8} {'plain µs':>8} {sizes}")
    for name in MODELS:
        for batch in (16, 32, 64, 128):
            print(measure(name, batch, rounds), flush=True)


if __name__ == "__main__":
    main()
