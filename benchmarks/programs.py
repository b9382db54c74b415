"""What a program costs beside its own work: a function that does nothing, and reports.

    python benchmarks/programs.py [--jobs N] [--rounds N]

`sweep()` of a function that returns its parameter, against a job of the engine that does nothing
(`overhead.py`), joblib and ProcessPoolExecutor.  All on two workers, each run a process of its own,
in turn, and timed once everything is warm; a sweep's time is all of `sweep()`, from opening its
folder to results.  Processor time is that of all processes, of a call more: what a longer run takes
beyond a short one in the same process, so without any start; a machine that is busy with other work
changes it less than the time.  Then how many reports a second two trials make at the same time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

import objectives
import overhead
import turns

WORKERS, TRIALS = overhead.WORKERS, overhead.TRIALS
FEW = 100
"""Calls of the short run."""
HERE = Path(__file__).resolve().parent


def swept(objective: str, points: list[dict[str, Any]], trials: int) -> Any:
    """A silent sweep in a new folder, inside the current one, which `main` removes at the end.

    Some file systems create files several times slower for half a minute after others were removed:
    removing each run's folder would slow the next run.
    """
    import sweeper

    folder = tempfile.mkdtemp(dir=Path.cwd())
    given = f"{HERE / 'objectives.py'}:{objective}"
    options: dict[str, Any] = {"total_cores": WORKERS, "progress": False}
    return sweeper.sweep(given, points, trials=trials, folder=folder, **options)


def run_sweep(jobs: int) -> float:
    """Seconds for `sweep()` once the fork server is warm."""
    swept("identity", [{"x": 0}], overhead.WARM_UP)
    began = time.perf_counter()
    found = swept("identity", [{"x": x} for x in range(jobs // TRIALS)], TRIALS)
    seconds = time.perf_counter() - began
    if sum(map(len, found.trial_numbers)) != jobs // TRIALS * TRIALS:
        raise SystemExit("not every trial has ended")
    return seconds


def run_joblib(jobs: int) -> float:
    """`joblib.Parallel`, which batches its tasks."""
    from joblib import Parallel, delayed

    with Parallel(WORKERS) as parallel:

        def submit(numbers: Sequence[int]) -> list[int]:
            found: list[int] = parallel(delayed(overhead.no_op)(number) for number in numbers)
            return found

        return overhead.timed(submit, jobs)


def run_joblib_alone(jobs: int) -> float:
    """The same, a task at a time: each result comes as soon as it is there."""
    from joblib import Parallel, delayed

    with Parallel(WORKERS, batch_size=1, return_as="generator_unordered") as parallel:

        def submit(numbers: Sequence[int]) -> list[int]:
            return list(parallel(delayed(overhead.no_op)(number) for number in numbers))

        return overhead.timed(submit, jobs)


WAYS: dict[str, tuple[str, Callable[[int], float]]] = {
    "sweep": ("a function through `sweep()`", run_sweep),
    "engine": ("a job of the engine that does nothing", overhead.run_sweeper),
    "joblib": ("joblib, a task at a time", run_joblib_alone),
    "joblib-batches": ("joblib, which batches by itself", run_joblib),
    "process-pool": ("ProcessPoolExecutor", overhead.run_process_pool),
}
"""Title and function."""


def reports_a_second() -> float:
    """Of two trials at the same time."""
    with tempfile.TemporaryDirectory() as meet:
        found = swept("reports", [{"x": x, "meet": meet, "of": WORKERS} for x in range(WORKERS)], 1)
    began = max(float(values[0]) for values in found.values("began"))
    ended = min(float(values[0]) for values in found.values("ended"))
    longest = max(float(values[0]) for values in found.values("ended")) - began
    if ended <= began:
        raise SystemExit("the trials did not run at the same time")
    return WORKERS * objectives.REPORTS / longest


def processor() -> float:
    """Seconds of processors that this process and all below it have taken, ended ones included."""
    me = psutil.Process()
    return sum(sum(one.cpu_times()[:4]) for one in (me, *me.children(recursive=True)))


def run_one(way: str, jobs: int) -> dict[str, float]:
    """Milliseconds a call, and of processors a call more; of reports, how many a second."""
    if way == "reports":
        return {"measured": reports_a_second(), "processor": 0.0}
    run = WAYS[way][1]
    run(FEW)  # imports, servers
    begun = processor()
    run(FEW)
    few = processor() - begun
    seconds = run(jobs)
    more = processor() - begun - 2 * few
    return {"measured": 1000 * seconds / jobs, "processor": 1000 * more / (jobs - FEW)}


def measure(way: str, jobs: int) -> tuple[float, float]:
    """As `run_one`, in a process of its own."""
    found = turns.run([sys.executable, HERE / "programs.py", "--one", way, "--jobs", jobs]).found
    return found["measured"], found["processor"]


def main() -> None:
    """Print the section, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--one", choices=[*WAYS, "reports"], help="measure one, in this process; its folder stays"
    )
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(options.one, options.jobs)))
        return
    ways = (*WAYS, "reports")
    times: dict[str, list[float]] = {way: [] for way in ways}
    processor: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, contextlib.chdir(folder):
        for _ in range(options.rounds):
            for way in ways:
                took, spent = measure(way, options.jobs)
                times[way].append(took)
                processor[way].append(spent)
    show(times, processor, options.jobs, options.rounds)


def show(
    times: dict[str, list[float]], processor: dict[str, list[float]], jobs: int, rounds: int
) -> None:
    """The table, and the reports."""
    print("## A function that does nothing, and reports\n")
    print(
        f"Milliseconds a call: {jobs:,} calls on {WORKERS} workers, {rounds} runs of each, in "
        "turn; of `sweep()` all its time, from opening the folder to results, each outcome "
        "durable. Processor: milliseconds of all processes for a call more, without any start "
        "(median). The ratio is the median of the runs' ratios to `sweep()` in the same round. "
        "Goals: at most twice a job of the engine, below joblib and ProcessPoolExecutor.\n"
    )
    print(turns.head("", "min", "median", "max", "ratio", "processor"))
    for way, (title, _) in WAYS.items():
        cells = [f"{f(times[way]):.3f}" for f in (min, statistics.median, max)]
        ratio = statistics.median(turns.ratios(times[way], times["sweep"]))
        spent = statistics.median(processor[way])
        print(turns.row(title, *cells, f"{ratio:.2f}", f"{spent:.3f}"))
    found = times["reports"]
    cells = [f"{f(found):,.0f}" for f in (min, statistics.median, max)]
    print(
        f"\n`trial.report` of two metrics, from {WORKERS} trials at the same time: "
        f"{cells[0]} / **{cells[1]}** / {cells[2]} reports a second together. Goal: 2,000."
    )


if __name__ == "__main__":
    main()
