"""Real sweeps under real kills for as long as is wanted, and what they leave and take.

    python -m tests.soak --minutes 60              # faults drawn from seed 0
    python -m tests.soak --minutes 60 --seed 4711  # others; the same again, as far as time allows

Two thirds of the time are rounds, of a problem, a generator and a command in turn.  Each is a
sweep (`tests.soaked`) that is disturbed until it has come to its end: its driver, its driver's
group, everything that it started, one worker or the fork server killed, the driver told to stop,
everything stopped and continued.  Then its folder must equal, file by file and outcome by outcome,
that of a quiet sweep of the same seed; after each driver no process may be left, and at the end no
shared memory and no file beside.

The last third is one long sweep of each kind, whose driver nobody touches and whose youngest
worker is killed now and then: what the driver, the fork server and the oldest worker occupy must
stay flat.
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import math
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from tests.soak_driver import ENDING, FAULTS, Driver, driven, must, strike
from tests.soak_memory import judge, watch
from tests.soaked import INTERRUPTED
from tests.sweeping import Replica, check_nothing_was_repeated

CALM = 6.0
"""Mean seconds between two faults, from the moment on when the driver has begun to train."""

LEAST = 30.0
"""Seconds of a round in which its sweep is disturbed, however little time is left."""

EARLY = 0.25
"""The probability that a driver is ended within its first seconds, whatever it does there."""

SEGMENTS = re.compile(r"(sweeper|torch_|psm_|sem\.|mp-|pym-)")
"""How the names begin of the shared memory that we, torch and Python make."""

KNOWN = re.compile(
    r"sweep\.db(-wal|-shm)?|lock|logs/worker-\d+\.log|points/.*|environment/.*"
    r"|checkpoints/[^/]+/[^./][^/]*\.end"
)
"""The files that a folder holds when its sweep is over; SQLite's two are left by whoever reads."""

INTERRUPTED_TOO = re.compile(r"checkpoints/[^/]+/[^./][^/]*\.part")
"""The files that it may hold besides when its sweep was interrupted."""

NOT_COMPARED: dict[str, str] = {
    "lock": "names the driver's process",
    "sweep.db": "has times, and all tries; its outcomes and its log are compared row by row",
    "sweep.db-wal": "belongs to sweep.db",
    "sweep.db-shm": "belongs to sweep.db",
    "logs": "what workers print, one file for each that a slot has had",
    "environment": "the command line names the folder; versions are the machine's",
}
"""Entries of a sweep's folder that differ by nature, and why."""


@dataclass(frozen=True)
class Kind:
    """What is swept in a round, and how much of it."""

    name: str
    trials: int
    """Of each point (and budget) in a round: enough for many faults to meet it, and few enough that
    every kind has its turn on a busy machine."""
    speed: float
    """Trials a second and core of the long sweep, of each point: more than there is time for, and
    yet few enough that it comes to every point."""
    share: float
    """Of the time of the long sweeps."""
    adaptive: bool = False
    """Whether its selector decides by results: then its log says the same in the same order."""
    not_compared: dict[str, str] = field(default_factory=dict)
    """Names of files in a trial's folder that differ by nature, and why."""


KINDS = (
    Kind("problem", trials=100, speed=10.0, share=0.5),
    Kind(
        "generator",
        trials=60,
        speed=2.0,
        share=0.25,
        adaptive=True,
        not_compared={
            "stdout.txt": "has what every try of the trial printed",
            "log.txt": "has the times, and where each try began",
        },
    ),
    Kind("command", trials=60, speed=1.0, share=0.25),
)


# -- rounds ---------------------------------------------------------------------------------------


@dataclass
class Figures:
    """What the summary says."""

    rounds: Counter[str] = field(default_factory=Counter)
    drivers: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: int = 0
    files: int = 0
    again: int = 0
    """Replicas that were begun more than once."""
    resumed: int = 0
    """How often a generator went on within its budget from what it had saved."""
    outlived: float = 0.0
    """Seconds within which all processes of any driver had ended after it."""


class Soak:
    def __init__(self, folder: Path, seed: int, minutes: float, *, bug: bool) -> None:
        self.folder, self.seed, self.bug = folder, seed, bug
        self.began = time.monotonic()
        self.rounds_end = self.began + minutes * 40
        self.end = self.began + minutes * 60
        self.figures = Figures()
        self.first: dict[str, tuple[int, Measured]] = {}
        """By kind: the seed of the first round's sweep, and what it came to."""
        self.segments = segments()

    def say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        sys.stdout.write(f"{minutes:3d}:{seconds:02d}  {text}\n")
        sys.stdout.flush()

    def run(self) -> None:
        """At least one round of each kind, then the long sweeps."""
        number = 0
        while number < len(KINDS) or time.monotonic() < self.rounds_end:
            number += 1
            self.round(number, KINDS[(number - 1) % len(KINDS)])
        seconds = max(60.0, self.end - time.monotonic())
        for kind in KINDS:
            self.long_sweep(kind, kind.share * seconds)

    def round(self, number: int, kind: Kind) -> None:
        rng = random.Random(f"{self.seed} {number}")
        sweep_seed = rng.randrange(1 << 32)
        quiet, disturbed = (self.folder / f"{name}-{number}" for name in ("quiet", "disturbed"))
        with driven(kind.name, quiet, sweep_seed + self.bug, kind.trials) as driver:
            driver.ended({0})
        self.say(f"round {number}: the quiet {kind.name} of seed {sweep_seed} is done")
        until = max(self.rounds_end, time.monotonic() + LEAST)
        happened: Counter[str] = Counter()
        drivers = 0
        code = None
        while code != 0:
            drivers += 1
            with driven(kind.name, disturbed, sweep_seed, kind.trials) as driver:
                code = disturb(driver, until, rng, happened)
            self.figures.outlived = max(self.figures.outlived, driver.outlived)
        self.compare(kind, quiet, disturbed)
        self.first.setdefault(kind.name, (sweep_seed, measured_in(quiet)))
        for folder in (quiet, disturbed):
            shutil.rmtree(folder)
        self.figures.rounds[kind.name] += 1
        self.figures.drivers += drivers
        self.figures.faults += happened
        self.say(f"round {number}: equal after {counted(drivers, 'driver')}; {listed(happened)}")

    def compare(self, kind: Kind, quiet: Path, disturbed: Path) -> None:
        """What a round leaves, and that it is what a quiet sweep leaves."""
        expected, found = measured_in(quiet), measured_in(disturbed)
        must(expected.keys() == found.keys(), "not the same trials and probes have ended")
        other = [replica for replica in expected if expected[replica] != found[replica]]
        must(not other, f"{len(other)} of {len(found)} outcomes differ, such as {other[:3]}")
        same = not kind.adaptive or log_in(quiet) == log_in(disturbed)
        must(same, "the selector was told something else, or in another order")
        check_nothing_was_repeated(disturbed)
        for folder in (quiet, disturbed):
            self.check_left(folder)
        self.figures.files += compare_files(kind, quiet, disturbed)
        self.figures.outcomes += len(found)
        self.figures.again += started_in(disturbed) - len(found)
        self.figures.resumed += resumed_in(disturbed) - resumed_in(quiet)

    def check_left(self, folder: Path, *, interrupted: bool = False) -> None:
        """Nothing is left that a sweep does not say it leaves."""
        also = f"|{INTERRUPTED_TOO.pattern}" if interrupted else ""
        known = re.compile(KNOWN.pattern + also)
        strange = [name for name in files_in(folder) if not known.fullmatch(name)]
        must(not strange, f"left in {folder}: {strange}")
        scratch = folder.with_name(f"{folder.name}-scratch")
        left = files_in(scratch)
        must(not left, f"temporary files are left: {left[:5]}")
        shutil.rmtree(scratch)
        new = segments() - self.segments
        if new:  # another program may be about to remove its own
            time.sleep(5.0)
            new &= segments()
        must(not new, f"shared memory is left: {new}")

    def long_sweep(self, kind: Kind, seconds: float) -> None:
        """One driver that nobody touches, and what it and its workers occupy."""
        rng = random.Random(f"{self.seed} long {kind.name}")
        folder = self.folder / f"long-{kind.name}"
        seed, expected = self.first[kind.name]
        self.say(f"{kind.name}: a sweep of {seconds / 60:.1f} minutes with one driver")
        trials = math.ceil(kind.speed * seconds * len(os.sched_getaffinity(0)))
        with driven(kind.name, folder, seed, trials, "--no-models") as driver:
            seen = watch(driver, seconds, rng, self.say)
            driver.process.terminate()
            driver.ended({INTERRUPTED, 0})
        self.figures.outlived = max(self.figures.outlived, driver.outlived)
        found = measured_in(folder)
        both = found.keys() & expected.keys()
        # Arrays of a trial name its model, where there is one.
        other = [] if self.bug else [key for key in both if found[key][0] != expected[key][0]]
        must(not other, f"{len(other)} differ from the first round's, such as {other[:3]}")
        check_nothing_was_repeated(folder)
        self.check_left(folder, interrupted=True)
        shutil.rmtree(folder)
        self.say(
            f"{seen.samples[-1][0]:,} trials beside {counted(seen.killed, 'kill')} of a worker"
        )
        judge(seen.samples, self.say)

    def summary(self) -> str:
        figures = self.figures
        rounds = ", ".join(f"{name} ×{count}" for name, count in figures.rounds.items())
        return (
            f"{counted(figures.rounds.total(), 'round')} ({rounds}), "
            f"{counted(figures.drivers, 'driver')}: {listed(figures.faults)}\n"
            f"{figures.outcomes:,} outcomes and {figures.files:,} files equal those of quiet "
            f"sweeps bit by bit; {figures.again:,} replicas were handed out again after they were "
            f"lost, none after it had ended\n"
            f"{figures.resumed:,} trials of a generator went on from what they had saved\n"
            f"nothing was left {figures.outlived:.1f} s after any driver: no process, no shared "
            "memory, no file beside"
        )


def disturb(driver: Driver, until: float, rng: random.Random, happened: Counter[str]) -> int:
    """One driver, disturbed until then, until it has ended or been ended; its exit code."""
    early = rng.random() < EARLY
    while time.monotonic() < until:
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
    return driver.ended({0})


# -- what is in a folder --------------------------------------------------------------------------

Measured = dict[Replica, tuple[Any, ...]]
"""What replicas came to, less times."""


def measured_in(folder: Path) -> Measured:
    """All outcomes: metrics by name, arrays, texts and failures."""
    with Store.read(Paths(folder).database) as store:
        return {
            (found.point, found.stage, found.number): (
                tuple((name, float(value).hex()) for name, value in found.metrics.items()),
                found.arrays,
                found.failure,
                repr(sorted(found.info.items())),
            )
            for found in store.outcomes()
        }


def log_in(folder: Path) -> list[tuple[Any, ...]]:
    """What an adaptive selector asked and was told."""
    with Store.read(Paths(folder).database) as store:
        return store.connection.execute(
            "SELECT selector, kind, point, value FROM log ORDER BY seq"
        ).fetchall()


def started_in(folder: Path) -> int:
    """How many replicas were handed to workers."""
    with Store.read(Paths(folder).database) as store:
        return store.connection.execute(
            "SELECT sum(json_array_length(value, '$.numbers')) FROM events WHERE kind = 'started'"
        ).fetchone()[0]


def resumed_in(folder: Path) -> int:
    """How often a generator has said that it goes on from a save."""
    logs = (path.read_text() for path in (folder / "points").rglob("log.txt"))
    return sum(text.count("goes on") for text in logs)


def compare_files(kind: Kind, quiet: Path, disturbed: Path) -> int:
    """That the same files are there with the same bytes; how many there are."""
    names = files_in(quiet)
    apart = set(names) ^ set(files_in(disturbed))
    apart = {name for name in apart if name.partition("/")[0] not in NOT_COMPARED}
    must(not apart, f"not the same files are there, such as {sorted(apart)[:5]}")
    compared = [
        name
        for name in names
        if name.partition("/")[0] not in NOT_COMPARED and Path(name).name not in kind.not_compared
    ]
    _, different, unread = filecmp.cmpfiles(quiet, disturbed, compared, shallow=False)
    must(not different and not unread, f"these files differ: {sorted(different + unread)[:5]}")
    return len(compared)


def files_in(folder: Path) -> list[str]:
    """All files below, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def segments() -> set[str]:
    """The names of shared memory that may be ours and that no process uses.

    Other programs of the machine have theirs, by the same names.
    """
    memory = Path("/dev/shm")
    found = [path for path in memory.glob("*") if SEGMENTS.match(path.name)]
    used = mapped_inodes() if found else set()
    left = set()
    for path in found:
        with contextlib.suppress(FileNotFoundError):
            left |= {path.name} if path.stat().st_ino not in used else set()
    return left


def mapped_inodes() -> set[int]:
    """Of the shared memory that some process has mapped: a semaphore is mapped by another name."""
    found = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # it has ended
            lines = (line.split() for line in maps.read_text().splitlines() if "/dev/shm/" in line)
            found |= {int(line[4]) for line in lines}
    return found


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
        rounds = counted(soak.figures.rounds.total(), "round")
        soak.say(
            f"VIOLATION after {rounds}: {error!r}\n    {again}\n    what it left is in {folder}"
        )
        return 1
    shutil.rmtree(folder)
    soak.say("all is well")
    sys.stdout.write(soak.summary() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
