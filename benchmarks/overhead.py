"""What a job costs beside its training: jobs that do nothing, here and through the peers.

    python benchmarks/overhead.py [--peers PYTHON] [--jobs N] [--rounds N]

Everything of a sweep but the training: study, scheduler, pinned workers, every outcome durable
(SQLite, fully synced) before the study is told of it.  The peers return a number from memory to
memory, and are timed after a warm-up, as the sweep is; `sweeper-cold` is not.  Each run is a
process of its own, in turn.  The peers loky, Dask and Ray run under `PYTHON` (by default this
interpreter) and are left out where they are not installed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

WORKERS = 2
WARM_UP = 200
TRIALS = 100
"""Of each point."""


# -- the same jobs, each way ----------------------------------------------------------------------


def execute(_context: object, _fd: int | None, job: Any) -> Iterator[Any]:
    """What a sweep's worker does: nothing, and what it came to."""
    from sweeper.records import Outcome

    metrics = {"perf_train": 1.0, "loss_train": 0.5, "perf_val": 1.0, "loss_val": 0.5}
    for number in job.numbers:
        now = time.time()
        yield Outcome(job.point, job.stage, number, now, now, metrics)


def no_op(number: int) -> int:
    """What a peer's worker does."""
    return number


class OneProbe:
    """A planner that tunes a point by one probe, which does nothing either."""

    tunings = 1

    def first(self, point: Any, *, check: bool) -> Any:  # noqa: ARG002 - the protocol
        """See `Planner`."""
        from sweeper.records import Planned, Step

        return Planned(point.signature, Step("probe", 1, {"steps": 1}))

    def next(self, point: Any, step: Any, outcomes: Sequence[Any]) -> Any:  # noqa: ARG002
        """See `Planner`."""
        from sweeper.records import TRIAL, Planned, Step, TunedSettings

        payload = {"steps": 1, "cycle_epochs": 1, "cycles": 1}
        found = Step(TRIAL, payload=payload, found=TunedSettings(0.1, 0.2, 32))
        return Planned(point.signature, found, step.stage)

    def steps_of(self, step: Any, budget: int | None = None) -> float:  # noqa: ARG002
        """See `Planner`."""
        return float(step.payload["steps"])

    def in_packs(self, step: Any) -> bool:  # noqa: ARG002 - the protocol
        """See `Planner`."""
        return False

    def steps_after(self, step: Any) -> float:  # noqa: ARG002 - the protocol
        """See `Planner`."""
        return 1.0


def run_sweeper(jobs: int) -> float:
    """Seconds for a sweep once the fork server is warm; its own workers' start is included."""
    run_cold_sweeper(WARM_UP)
    return run_cold_sweeper(jobs)


def run_cold_sweeper(jobs: int) -> float:
    """Seconds that the first sweep of a process takes, the fork server's start included."""
    from sweeper.records import Target
    from sweeper.run.backends.local import LocalBackend, prepare
    from sweeper.run.dispatch import dispatch
    from sweeper.run.machine.cores import slots
    from sweeper.run.machine.topology import usable_cores
    from sweeper.run.processes.signals import Interrupts
    from sweeper.run.scheduler import Scheduler
    from sweeper.search import FixedSweep
    from sweeper.settings import SweepSettings
    from sweeper.signature import make_point
    from sweeper.store.database.store import Store
    from sweeper.study import Study

    prepare(("overhead",))
    points = [(number,) for number in range(-(-jobs // TRIALS))]
    selector = FixedSweep.with_fixed_trials(points, TRIALS)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name, Interrupts() as interrupts:
        folder = Path(name)
        cores = slots(usable_cores(WORKERS), 1)
        target = Target("overhead:execute", preload=("overhead",))
        backend = LocalBackend(cores, pinned=True, target=target, logs=folder / "logs")
        with Store.open(folder / "sweep.db") as store:
            began = time.perf_counter()
            settings = SweepSettings()
            study = Study(
                selector,
                OneProbe(),
                lambda params: make_point(params, "no-op", settings, 0),
                most_cores=1,
                slots=len(cores),
                recorded=store.recorded("no-op"),
            )
            store.begin(study.begin(), "no-op", keep_log=False)
            for events in dispatch(study, Scheduler(len(cores)), backend, interrupts, time.time):
                store.append(events)
                store.decide(study.tell(events))
            store.append(())
            seconds = time.perf_counter() - began
            if study.progress().trials_done != len(points) * TRIALS:
                raise SystemExit("not every trial has ended")
        backend.close()
    return seconds


def timed(submit: Callable[[Sequence[int]], Sequence[int]], jobs: int) -> float:
    """Seconds for the jobs, once everything is warm."""
    submit(range(WARM_UP))
    began = time.perf_counter()
    if sum(submit(range(jobs))) != jobs * (jobs - 1) // 2:
        raise SystemExit("not every job has ended")
    return time.perf_counter() - began


def run_process_pool(jobs: int) -> float:
    """`concurrent.futures.ProcessPoolExecutor`: a future a job."""
    from concurrent.futures import ProcessPoolExecutor, as_completed

    with ProcessPoolExecutor(WORKERS) as pool:

        def submit(numbers: Sequence[int]) -> list[int]:
            futures = [pool.submit(no_op, number) for number in numbers]
            return [future.result() for future in as_completed(futures)]

        return timed(submit, jobs)


def run_loky(jobs: int) -> float:
    """Executor of loky: a future a job."""
    from concurrent.futures import as_completed

    from loky import get_reusable_executor

    pool = get_reusable_executor(max_workers=WORKERS)

    def submit(numbers: Sequence[int]) -> list[int]:
        futures = [pool.submit(no_op, number) for number in numbers]
        return [future.result() for future in as_completed(futures)]

    return timed(submit, jobs)


def run_dask(jobs: int) -> float:
    """Dask's local cluster: a future a job."""
    from distributed import Client

    with Client(
        n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None
    ) as client:
        return timed(lambda n: client.gather(client.map(no_op, list(n), pure=False)), jobs)


def run_ray(jobs: int) -> float:
    """Ray on this machine: a task a job."""
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="error")
    task = ray.remote(no_op)
    try:
        return timed(lambda numbers: ray.get([task.remote(n) for n in numbers]), jobs)
    finally:
        ray.shutdown()


def run_pool(jobs: int) -> float:
    """`multiprocessing.Pool`: neither pinned nor durable, and its workers' death hangs it."""
    import multiprocessing

    with multiprocessing.Pool(WORKERS) as pool:
        return timed(lambda numbers: list(pool.imap_unordered(no_op, numbers)), jobs)


WAYS: dict[str, tuple[str, Callable[[int], float], str]] = {
    "sweeper": ("sweeper, pinned and durable", run_sweeper, ""),
    "sweeper-cold": ("the same, first sweep of a process", run_cold_sweeper, ""),
    "process-pool": ("ProcessPoolExecutor", run_process_pool, ""),
    "loky": ("loky", run_loky, "loky"),
    "dask": ("Dask", run_dask, "distributed"),
    "ray": ("Ray", run_ray, "ray"),
    "pool": ("multiprocessing.Pool", run_pool, ""),
}
"""Title, function, and the package that it needs."""


# -- in turn --------------------------------------------------------------------------------------


def version(python: str, package: str) -> str:
    """The version of a package under `python`; empty where it is not installed."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run(  # noqa: S603 - an interpreter that the caller names
        [python, "-c", code], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def measure(python: str, way: str, jobs: int) -> float:
    """Milliseconds a job, in a process of its own."""
    done = subprocess.run(  # noqa: S603 - as above
        [python, __file__, "--one", way, "--jobs", str(jobs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    """Print the table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--one", choices=WAYS, help="measure one way, in this process")
    options = parser.parse_args()
    if options.one:
        print(1000 * WAYS[options.one][1](options.jobs) / options.jobs)
        return
    pythons = {way: options.peers if WAYS[way][2] else sys.executable for way in options.ways}
    versions = {way: version(pythons[way], WAYS[way][2]) for way in pythons if WAYS[way][2]}
    ways = [way for way in options.ways if versions.get(way) != ""]
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            found[way].append(measure(pythons[way], way, options.jobs))
    print("## Overhead of a job that does nothing\n")
    print(
        f"Milliseconds a job: {options.jobs:,} jobs on {WORKERS} workers, {options.rounds} runs "
        "of each, in turn. The ratio is the median of the runs' ratios to sweeper's in the same "
        "round. Goal: below the first four peers, 0.15 ms.\n"
    )
    print("| | min | median | max | ratio |\n| --- | --- | --- | --- | --- |")
    for way in ways:
        times = found[way]
        title = f"{WAYS[way][0]} {versions.get(way, '')}".strip()
        cells = [f"{f(times):.3f}" for f in (min, statistics.median, max)]
        ratio = "1"
        if way != "sweeper" and "sweeper" in found:
            pairs = zip(times, found["sweeper"], strict=True)
            ratio = f"{statistics.median(peer / ours for peer, ours in pairs):.1f}"
        print(f"| {title} | " + " | ".join(cells) + f" | {ratio} |")


if __name__ == "__main__":
    main()
