"""Real sweeps under real kills for as long as is wanted, and what they leave and take.

    python -m tests.soak --minutes 60              # faults drawn from seed 0
    python -m tests.soak --minutes 60 --seed 4711  # others; the same again, as far as time allows

Two thirds of the time are rounds.  Each is a sweep (`tests.soaked`) that is disturbed until it
has come to its end: its driver, its driver's group, everything that it started, one worker or the
fork server killed, the driver told to stop, everything stopped and continued.  Then its folder must
equal, file by file and outcome by outcome, that of a quiet sweep of the same seed; after each
driver no process may be left, and at the end no shared memory and no file beside.

The last third is one long sweep whose driver nobody touches and whose youngest worker is killed
now and then: what the driver, the fork server and the oldest worker occupy must stay flat.
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sweeper.errors import SweeperError
from sweeper.store.database import Store
from sweeper.store.paths import Paths
from tests.soaked import INTERRUPTED
from tests.sweeping import check_nothing_was_repeated, outcomes, processes_with, python

ROOT = Path(__file__).parents[1]

TRIALS = 300
"""Of each point in a round: half a minute of training or more, so that many faults meet it."""

FAULTS = {
    "driver": 4,
    "group": 3,
    "everything": 2,
    "terminate": 2,
    "worker": 5,
    "server": 2,
    "pause": 2,
}
"""What happens, and how often in proportion."""

ENDING = {
    "driver": {-signal.SIGKILL},
    "group": {-signal.SIGKILL},
    "everything": {-signal.SIGKILL},
    # It ends in the ordinary way where it has not come to train, or trains no more.
    "terminate": {INTERRUPTED, -signal.SIGTERM},
}
"""Faults that end the driver, and the exit codes that they give it."""

CALM = 6.0
"""Mean seconds between two faults, from the moment on when the driver has begun to train."""

EARLY = 0.25
"""The probability that a driver is ended within its first seconds, whatever it does there."""

HANGS = 300.0
"""Seconds without an outcome after which a driver is said to hang."""

SAMPLE = 2.0
"""Seconds between two looks at the memory."""

PATIENCE = 2.0
"""Seconds in which all that a driver started has ended, once the driver has."""

SEGMENTS = re.compile(r"(sweeper|torch_|psm_|sem\.|mp-|pym-)")
"""How the names begin of the shared memory that we, torch and Python make."""

KNOWN = re.compile(r"sweep\.db(-wal|-shm)?|lock|logs/worker-\d+\.log|points/.*")
"""The files that a folder holds when its sweep is over; SQLite's two are left by whoever reads."""

ALLOWED = {"driver": 0.5, "server": 0.1, "oldest worker": 0.1}
"""MiB by which each may grow for 1,000 trials.  Measured: 0.27 in the driver, which remembers them,
none in the server, and 0.05 in a worker."""

SLACK = 24.0
"""MiB by which each may grow besides: the first eager trial imports ignite, 10 MiB."""


class Violation(AssertionError):
    """A promise was broken."""


def must(holds: object, message: str) -> None:
    if not holds:
        raise Violation(message)


def trials_in(store: Store) -> int:
    """The highest numbers of each point's trials, added: counting 100,000 rows takes too long."""
    sql = "SELECT max(number) + 1 FROM outcomes WHERE stage = 'trial' AND point = ?"
    points = store.connection.execute("SELECT id FROM points").fetchall()
    return sum(store.connection.execute(sql, point).fetchone()[0] or 0 for point in points)


# -- one driver -----------------------------------------------------------------------------------


class Driver:
    """A driver's process, all that it starts, and how far it has come."""

    def __init__(self, folder: Path, seed: int, trials: int, *options: str) -> None:
        self.folder = folder
        self.scratch = folder.with_name(f"{folder.name}-scratch")
        """Where temporary files go, so that those which are left are seen."""
        self.scratch.mkdir(exist_ok=True)
        self.before = self.progress()
        self.mark = uuid.uuid4().hex
        self.output = folder.with_name(f"{folder.name}.log")
        with self.output.open("a") as output:
            self.process = python(
                "-m",
                "tests.soaked",
                str(folder),
                str(seed),
                str(trials),
                *options,
                cwd=ROOT,
                environment={"SWEEPER_TEST_MARK": self.mark, "TMPDIR": str(self.scratch)},
                stdout=output,
                stderr=output,
            )

    def progress(self) -> int:
        """A number that grows as the folder does, whoever drives it."""
        # Where there is no database yet there is nothing to read.
        with contextlib.suppress(SweeperError), Store.read(Paths(self.folder).database) as store:
            sql = "SELECT count(*) FROM decisions WHERE after != ''"  # a stage has ended
            return store.connection.execute(sql).fetchone()[0] + trials_in(store)
        return 0

    def trials(self) -> int:
        """How many trials have ended, or a few more."""
        with Store.read(Paths(self.folder).database) as store:
            return trials_in(store)

    def server(self) -> psutil.Process | None:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children():
                if "sweeper.run.server" in " ".join(child.cmdline()):
                    return child
        return None

    def workers(self) -> list[psutil.Process]:
        """The oldest first."""
        server = self.server()
        with contextlib.suppress(psutil.Error):
            found = server.children() if server is not None else []
            return sorted(found, key=lambda one: (one.create_time(), one.pid))
        return []

    def wait(self, seconds: float, *, trains: bool = False) -> bool:
        """Whether the driver has ended within so many seconds, counted once it `trains`."""
        began, seen, looked = time.monotonic(), self.before, time.monotonic()
        while self.process.poll() is None:
            now = time.monotonic()
            progress = self.progress()
            if progress != seen:
                seen, looked = progress, now
            must(now - looked < HANGS, f"nothing has ended for {HANGS:.0f} s: the driver hangs")
            waits = trains and progress <= self.before
            if waits:
                began = now
            left = seconds - (now - began)
            if left <= 0 and not waits:
                return False
            time.sleep(0.2 if waits else min(0.2, left))
        return True

    def ended(self, allowed: set[int]) -> int:
        """Its exit code, one of those that are allowed; nothing of it is left two seconds later."""
        code = self.process.wait(HANGS)
        _, alive = psutil.wait_procs(processes_with(self.mark), timeout=PATIENCE)
        must(not alive, f"{len(alive)} processes outlive their driver: {alive}")
        said = self.output.read_text(errors="replace")[-3000:]
        must(code in allowed, f"the driver ended with exit code {code}; it said:\n{said}")
        return code

    def kill(self) -> None:
        """Whatever is left: nothing of ours stays behind where a promise was broken."""
        each(processes_with(self.mark), "kill")
        self.process.wait()


@contextlib.contextmanager
def driven(folder: Path, seed: int, trials: int, *options: str) -> Iterator[Driver]:
    driver = Driver(folder, seed, trials, *options)
    try:
        yield driver
    finally:
        driver.kill()


def strike(driver: Driver, fault: str, rng: random.Random) -> bool:
    """Let it happen; False where there was nobody to whom it could."""
    match fault:
        case "group":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(driver.process.pid, signal.SIGKILL)
            return True
        case "terminate":
            driver.process.terminate()
            return True
        case "driver":
            found = [driver.process]
        case "everything":
            found = processes_with(driver.mark)
        case "worker":
            found = [rng.choice(workers)] if (workers := driver.workers()) else []
        case "server":
            found = [server] if (server := driver.server()) else []
        case "pause":
            found = processes_with(driver.mark)
            each(found, "suspend")
            time.sleep(rng.uniform(0.5, 3.0))
            each(found, "resume")
            return True
    each(found, "kill")
    return bool(found)


def each(processes: list[psutil.Process], action: str) -> None:
    """Do this to all that are still there."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            getattr(process, action)()


# -- rounds ---------------------------------------------------------------------------------------


@dataclass
class Figures:
    """What the summary says."""

    rounds: int = 0
    drivers: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: int = 0
    files: int = 0
    again: int = 0
    """Replicas that were begun more than once."""


class Soak:
    def __init__(self, folder: Path, seed: int, minutes: float, *, bug: bool) -> None:
        self.folder, self.seed, self.bug = folder, seed, bug
        self.began = time.monotonic()
        self.rounds_end = self.began + minutes * 40
        self.end = self.began + minutes * 60
        self.figures = Figures()
        self.first: tuple[int, dict] = (0, {})
        """The seed of the first round's sweep, and what it came to."""
        self.segments = segments()

    def say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        sys.stdout.write(f"{minutes:3d}:{seconds:02d}  {text}\n")
        sys.stdout.flush()

    def run(self) -> None:
        while self.figures.rounds == 0 or time.monotonic() < self.rounds_end:
            self.round()
            self.figures.rounds += 1
        self.long_sweep()

    def round(self) -> None:
        number = self.figures.rounds + 1
        rng = random.Random(f"{self.seed} {number}")
        sweep_seed = rng.randrange(1 << 32)
        quiet, disturbed = (self.folder / f"{name}-{number}" for name in ("quiet", "disturbed"))
        with driven(quiet, sweep_seed + self.bug, TRIALS) as driver:
            driver.ended({0})
        self.say(f"round {number}: the quiet sweep of seed {sweep_seed} is done")
        happened: Counter[str] = Counter()
        drivers = 0
        code = None
        while code != 0:
            drivers += 1
            with driven(disturbed, sweep_seed, TRIALS) as driver:
                code = self.disturb(driver, rng, happened)
        self.compare(quiet, disturbed)
        if number == 1:
            self.first = (sweep_seed, outcomes(quiet))
        for folder in (quiet, disturbed):
            shutil.rmtree(folder)
        self.figures.drivers += drivers
        self.figures.faults += happened
        self.say(f"round {number}: equal after {counted(drivers, 'driver')}; {listed(happened)}")

    def disturb(self, driver: Driver, rng: random.Random, happened: Counter[str]) -> int:
        """One driver, until it has ended, or been ended; its exit code."""
        early = rng.random() < EARLY
        while time.monotonic() < self.rounds_end:
            choices = ENDING if early else FAULTS
            fault = rng.choices(list(choices), [FAULTS[name] for name in choices])[0]
            seconds = rng.uniform(0.0, 8.0) if early else rng.expovariate(1 / CALM)
            if driver.wait(seconds, trains=not early):
                break
            if strike(driver, fault, rng):
                happened[fault] += 1
            if fault in ENDING:
                # It may have been done the moment before.
                return driver.ended(ENDING[fault] | {0})
        driver.wait(float("inf"))
        return driver.ended({0})

    def compare(self, quiet: Path, disturbed: Path) -> None:
        """What a round leaves, and that it is what a quiet sweep leaves."""
        expected, found = outcomes(quiet), outcomes(disturbed)
        must(expected.keys() == found.keys(), "not the same trials and probes have ended")
        other = [replica for replica in expected if expected[replica] != found[replica]]
        must(not other, f"{len(other)} of {len(found)} outcomes differ, such as {other[:3]}")
        check_nothing_was_repeated(disturbed)
        names = files_in(quiet / "points")
        must(names == files_in(disturbed / "points"), "not the same files are there")
        _, different, unread = filecmp.cmpfiles(
            quiet / "points", disturbed / "points", names, shallow=False
        )
        must(not different and not unread, f"these files differ: {sorted(different + unread)[:5]}")
        for folder in (quiet, disturbed):
            self.check_left(folder)
        self.figures.outcomes += len(found)
        self.figures.files += len(names)
        with Store.read(Paths(disturbed).database) as store:
            sql = (
                "SELECT sum(json_array_length(value, '$.numbers')) FROM events "
                "WHERE kind = 'started'"
            )
            self.figures.again += store.connection.execute(sql).fetchone()[0] - len(found)

    def check_left(self, folder: Path) -> None:
        """Nothing is left that a sweep does not say it leaves."""
        strange = [name for name in files_in(folder) if not KNOWN.fullmatch(name)]
        must(not strange, f"left in {folder}: {strange}")
        scratch = folder.with_name(f"{folder.name}-scratch")
        left = files_in(scratch)
        must(not left, f"temporary files are left: {left[:5]}")
        shutil.rmtree(scratch)
        new = segments() - self.segments
        must(not new, f"shared memory is left: {new}")

    # -- memory -----------------------------------------------------------------------------------

    def long_sweep(self) -> None:
        """One driver that nobody touches, and what it and its workers occupy."""
        rng = random.Random(f"{self.seed} long")
        folder = self.folder / "long"
        seed, expected = self.first
        seconds = max(60.0, self.end - time.monotonic())
        until = time.monotonic() + seconds
        self.say(f"a sweep of {seconds / 60:.1f} minutes with one driver")
        samples: list[tuple[int, dict[str, float]]] = []
        killed = 0
        # More than there is time for, and yet few enough that it comes to every point.
        trials = int(10 * seconds * len(os.sched_getaffinity(0)))
        with driven(folder, seed, trials, "--no-models") as driver:
            must(not driver.wait(0.0, trains=True), "the driver has ended before it trained")
            strike_at = time.monotonic() + rng.expovariate(1 / (3 * CALM))
            workers = driver.workers()
            must(workers, "there are outcomes and no worker")
            oldest = workers[0]
            while time.monotonic() < until and not driver.wait(SAMPLE):
                sizes = occupied(driver, oldest)
                if sizes is None:
                    # All trials are done: workers end first, and the driver writes its files.
                    must(driver.wait(HANGS), "a process that nobody killed has ended")
                    break
                samples.append((driver.trials(), sizes))
                if len(samples) % 30 == 0:
                    self.say(f"{samples[-1][0]:,} trials; {described(samples[-1][1])}")
                others = [one for one in driver.workers() if one.pid != oldest.pid]
                if time.monotonic() >= strike_at and others:
                    strike_at = time.monotonic() + rng.expovariate(1 / (3 * CALM))
                    killed += 1
                    each(others[-1:], "kill")
            driver.process.terminate()
            driver.ended({INTERRUPTED, 0})
        found = outcomes(folder, only=expected)
        # Arrays of a trial name its model, where there is one.
        other = [] if self.bug else [key for key in found if found[key][0] != expected[key][0]]
        must(not other, f"{len(other)} differ from the first round's, such as {other[:3]}")
        check_nothing_was_repeated(folder)
        self.check_left(folder)
        self.say(f"{samples[-1][0]:,} trials beside {counted(killed, 'kill')} of a worker")
        self.judge(samples)

    def judge(self, samples: list[tuple[int, dict[str, float]]]) -> None:
        """Say how much memory grew, and see that it did not."""
        # Allocators, caches and pages that a fork shares settle at first.
        warm = samples[len(samples) // 5 :]
        part = max(1, len(warm) // 8)
        ends = []
        for few in (warm[:part], warm[-part:]):
            trials = sum(count for count, _ in few) / part
            ends.append((trials, {name: mean(few, name) for name in ALLOWED}))
        (first, start), (last, end) = ends
        thousands = max(last - first, 1) / 1000
        self.say(f"memory over {last - first:,.0f} trials, after as many as {first:,.0f}:")
        grown = {}
        for name, allowed in ALLOWED.items():
            growth = end[name] - start[name]
            grown[name] = growth - SLACK - allowed * thousands
            self.say(
                f"  {name:13s}  {start[name]:7.1f} to {end[name]:7.1f} MiB: "
                f"{growth / thousands:+.3f} MiB per 1,000 trials "
                f"(allowed: {allowed:g}, and {SLACK:g} MiB besides)"
            )
        too_much = [name for name, over in grown.items() if over > 0]
        must(not too_much, f"memory is not flat: {', '.join(too_much)}")

    def summary(self) -> str:
        figures = self.figures
        return (
            f"{counted(figures.rounds, 'round')}, {counted(figures.drivers, 'driver')}: "
            f"{listed(figures.faults)}\n"
            f"{figures.outcomes:,} outcomes and {figures.files:,} files equal those of quiet "
            f"sweeps bit by bit; {figures.again:,} replicas were handed out again after they were "
            "lost, none after it had ended\n"
            f"nothing was left {PATIENCE:g} s after any driver: no process, no shared memory, no "
            "file beside"
        )


def mean(samples: list[tuple[int, dict[str, float]]], name: str) -> float:
    return sum(sizes[name] for _, sizes in samples) / len(samples)


def occupied(driver: Driver, oldest: psutil.Process) -> dict[str, float] | None:
    """MiB of resident memory; None once one of the processes has ended."""
    server = driver.server()
    if server is None:
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        processes = {
            "driver": psutil.Process(driver.process.pid),
            "server": server,
            "oldest worker": oldest,
        }
        return {name: one.memory_info().rss / 2**20 for name, one in processes.items()}
    return None


def described(sizes: dict[str, float]) -> str:
    return ", ".join(f"{name} {size:.1f} MiB" for name, size in sizes.items())


def files_in(folder: Path) -> list[str]:
    """All files below, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def segments() -> set[str]:
    """The names of shared memory that may be ours."""
    memory = Path("/dev/shm")
    found = memory.iterdir() if memory.is_dir() else ()
    return {path.name for path in found if SEGMENTS.match(path.name)}


def counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def listed(faults: Counter[str]) -> str:
    return ", ".join(f"{name} ×{faults[name]}" for name in FAULTS if faults[name]) or "undisturbed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="2 or more")
    parser.add_argument("--seed", type=int, default=0, help="of what happens, and of the sweeps")
    parser.add_argument("--bug", action="store_true", help="compare with a sweep of another seed")
    arguments = parser.parse_args()
    if not arguments.minutes >= 2:
        parser.error(f"--minutes {arguments.minutes}: it must be 2 or more")
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    soak = Soak(folder, arguments.seed, arguments.minutes, bug=arguments.bug)
    soak.say(f"{arguments.minutes:g} minutes with seed {arguments.seed}, in {folder}")
    try:
        soak.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is said with the seed
        if not isinstance(error, AssertionError):
            traceback.print_exc()
        flag = " --bug" if arguments.bug else ""
        again = (
            f"python -m tests.soak --minutes {arguments.minutes:g} --seed {arguments.seed}{flag}"
        )
        soak.say(
            f"VIOLATION after {counted(soak.figures.rounds, 'round')}: {error!r}\n    {again}\n"
            f"    what it left is in {folder}"
        )
        return 1
    shutil.rmtree(folder)
    soak.say("all is well")
    sys.stdout.write(soak.summary() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
