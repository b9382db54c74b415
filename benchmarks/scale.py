"""What a sweep's size costs the driver: jobs that do nothing, on simulated workers.

    python benchmarks/scale.py [--most POINTS] [--rounds N] [--plot PNG]

For sweeps of 10 trials a point: run one, each outcome durable; then, several times, open it again
to go on, and collate its summaries.  Each in a process of its own, so that its memory is seen.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import turns
from overhead import OneProbe, execute
from sweeper.engine.engine import uncollected
from sweeper.records import Message, Result, Start
from sweeper.run.dispatch import dispatch
from sweeper.run.processes.signals import Interrupts
from sweeper.run.scheduler import Scheduler
from sweeper.search import FixedSweep
from sweeper.settings import SweepSettings
from sweeper.signature import make_point
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.results.collate import collate
from sweeper.study import Study

TRIALS = 10
SLOTS = 64
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
PHASES = ("run", "open", "collate")
ROUNDS = 5


class Instant:
    """Workers that are done at once."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()

    def start(self, starts: Sequence[Start]) -> None:
        """See `Backend`."""
        for start in starts:
            for outcome in execute(None, None, start.job):
                self._messages.append(Result(start.slot, outcome))

    def wait(self, timeout: float | None, interrupts: Interrupts) -> list[Message]:  # noqa: ARG002
        """See `Backend`."""
        return [self._messages.popleft() for _ in range(min(SLOTS, len(self._messages)))]

    def close(self) -> None:
        """See `Backend`."""


def begin(points: int, store: Store) -> Study:
    """Open a folder to go on with it."""
    settings = SweepSettings()
    selector = FixedSweep.with_fixed_trials([(n, "tanh", 0.5) for n in range(points)], TRIALS)
    with uncollected():
        study = Study(
            selector,
            OneProbe(),
            lambda params: make_point(params, "no-op", settings, 0),
            most_cores=1,
            slots=SLOTS,
            recorded=store.recorded("no-op", log=False),
        )
        store.begin(study.begin(), "no-op", keep_log=False)
    return study


def run(points: int, folder: Path) -> None:
    """A whole sweep."""
    with Store.open(Paths(folder).database) as store, Interrupts() as interrupts:
        study = begin(points, store)
        for events in dispatch(study, Scheduler(SLOTS), Instant(), interrupts, time.time):
            store.append(events)
            store.decide(study.tell(events))
        store.append(())


def reopen(points: int, folder: Path) -> Study:
    """What happens before the first job when the same command is given again."""
    with Store.open(Paths(folder).database) as store:
        study = begin(points, store)
        list(study.release())
        if not study.finished:
            raise SystemExit("something is left to do")
    return study


def summarise(points: int, folder: Path) -> None:
    """The results, and the summaries of all points."""
    with Store.open(Paths(folder).database) as store:
        results = collate(store, Paths(folder))
    if sum(map(len, results.trial_numbers)) != points * TRIALS:
        raise SystemExit("not every trial is there")


def measure(phase: str, points: int, folder: Path) -> dict[str, float]:
    """Seconds and bytes of one phase, in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    kept = {"run": run, "open": reopen, "collate": summarise}[phase](points, folder)
    seconds = time.perf_counter() - began
    del kept  # a sweep that goes on keeps it
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "bytes": 1024.0 * (after - before)}


def in_processes(points: int, folder: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    """As `measure`, each in a process of its own: the first phase once, the others in turn."""
    found = {PHASES[0]: [in_process(PHASES[0], points, folder)]}
    for _ in range(rounds):
        for phase in PHASES[1:]:
            found.setdefault(phase, []).append(in_process(phase, points, folder))
    return found


def in_process(phase: str, points: int, folder: Path) -> dict[str, float]:
    """As `measure`, in a process of its own."""
    done = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, __file__, "--phase", phase, "--most", str(points), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def middle(runs: Sequence[dict[str, float]]) -> float:
    """The median of their seconds."""
    return statistics.median(run["seconds"] for run in runs)


def plot(rows: list[dict[str, Any]], file: str) -> None:
    """Cost against size, beside n log n."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    trials = [row["points"] * TRIALS for row in rows]
    for phase in PHASES:
        axes.loglog(trials, [middle(row[phase]) for row in rows], "o-", label=phase)
    scale = middle(rows[0]["run"]) / (trials[0] * math.log(trials[0]))
    axes.loglog(trials, [scale * n * math.log(n) for n in trials], "k:", label="n log n")
    axes.set(xlabel="trials", ylabel="seconds", title="Cost of a sweep's size in the driver")
    axes.legend()
    axes.grid(visible=True, which="both", alpha=0.3)
    figure.tight_layout()
    figure.savefig(file)


def main() -> None:
    """Print the table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--most", type=int, default=SIZES[-1], metavar="POINTS")
    parser.add_argument("--rounds", type=int, choices=range(1, 100), default=ROUNDS, metavar="N")
    parser.add_argument("--plot", metavar="FILE")
    parser.add_argument("--phase", choices=PHASES, help="one phase, in this process")
    parser.add_argument("folder", nargs="?", type=Path)
    options = parser.parse_args()
    if options.phase:
        print(json.dumps(measure(options.phase, options.most, options.folder)))
        return
    print("## Scale: what a sweep's size costs the driver (no-op jobs, simulated workers)\n")
    print(
        f"{TRIALS} trials a point. Seconds, min / **median** / max of several runs, and in "
        "brackets microseconds a trial. Opened is a folder when the first job could start; the "
        "first summaries make the points' folders, others find them. Goals at 1,000,000 trials: "
        "open 10 s, summaries 60 s, 2 KiB of the driver's memory a trial.\n"
    )
    print("| points | trials | run, durable | open to resume | collate summaries | KiB a trial |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows: list[dict[str, Any]] = []
    for points in (size for size in SIZES if size <= options.most):
        row: dict[str, Any] = {"points": points}
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
            row |= in_processes(points, Path(name), options.rounds)
        rows.append(row)
        trials = points * TRIALS
        cells = [
            f"{turns.spread([run['seconds'] for run in row[phase]])} "
            f"({1e6 * middle(row[phase]) / trials:.0f})"
            for phase in PHASES
        ]
        memory = max(run["bytes"] for run in (*row["run"], *row["open"])) / trials / 1024
        print(f"| {points:,} | {trials:,} | {' | '.join(cells)} | {memory:.2f} |", flush=True)
    if options.plot:
        plot(rows, options.plot)
        print(f"\n![cost against size]({Path(options.plot).name})")


if __name__ == "__main__":
    main()
