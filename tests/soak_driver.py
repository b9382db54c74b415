"""A driver's process for `tests.soak`, all that it starts, and what befalls them."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from sweeper.errors import SweeperError
from sweeper.records import is_trial
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from tests.soaked import INTERRUPTED
from tests.sweeping import processes_with, python

ROOT = Path(__file__).parents[1]

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

HANGS = 300.0
"""Seconds without an outcome after which a driver is said to hang, however busy the machine is."""

PATIENCE = 20.0
"""Seconds in which all that a driver started has ended, once the driver has.  Two are enough where
nothing else runs; the summary says how many it took."""


class Violation(AssertionError):
    """A promise was broken."""


def must(holds: object, message: str) -> None:
    if not holds:
        raise Violation(message)


def ended_in(folder: Path) -> Counter[str]:
    """By stage, the highest numbers of its replicas with an outcome, added over the points.

    Counting 100,000 rows would take too long; these are found by the table's key.
    """
    found: Counter[str] = Counter()
    highest = "SELECT max(number) + 1 FROM outcomes WHERE point = ? AND stage = ?"
    following = "SELECT min(stage) FROM outcomes WHERE point = ? AND stage > ?"
    with Store.read(Paths(folder).database) as store:

        def one(sql: str, *values: object) -> object:
            return store.connection.execute(sql, values).fetchone()[0]

        for (point,) in store.connection.execute("SELECT id FROM points").fetchall():
            stage = ""
            while (stage := one(following, point, stage)) is not None:
                found[stage] += one(highest, point, stage)
    return found


class Driver:
    """A driver's process, all that it starts, and how far it has come."""

    def __init__(self, kind: str, folder: Path, seed: int, trials: int, *options: str) -> None:
        self.folder = folder
        self.scratch = folder.with_name(f"{folder.name}-scratch")
        """Where temporary files go, so that those which are left are seen."""
        self.scratch.mkdir(exist_ok=True)
        self.before = self.progress()
        self.mark = uuid.uuid4().hex
        self.output = folder.with_name(f"{folder.name}.log")
        asked = ("tests.soaked", kind, str(folder), str(seed), str(trials), *options)
        with self.output.open("a") as output:
            self.process = python(
                "-m",
                *asked,
                cwd=ROOT,
                environment={"SWEEPER_TEST_MARK": self.mark, "TMPDIR": str(self.scratch)},
                stdout=output,
                stderr=output,
            )
        self.outlived = 0.0
        """Seconds in which all that it started has ended, once it had."""

    def progress(self) -> int:
        """A number that grows as the folder does, whoever drives it."""
        with contextlib.suppress(SweeperError):  # there is no database yet
            return ended_in(self.folder).total()
        return 0

    def trials(self) -> int:
        """How many trials have ended, or a few more."""
        with contextlib.suppress(SweeperError):  # there is no database yet
            return sum(count for stage, count in ended_in(self.folder).items() if is_trial(stage))
        return 0

    def server(self) -> psutil.Process | None:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children():
                if "sweeper.run.processes.server" in " ".join(child.cmdline()):
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
        """Its exit code, one of those that are allowed, once it ends; nothing of it is left."""
        self.wait(math.inf)
        began, code = time.monotonic(), self.process.returncode
        _, alive = psutil.wait_procs(processes_with(self.mark), timeout=PATIENCE)
        must(not alive, f"{len(alive)} processes outlive their driver: {alive}")
        self.outlived = time.monotonic() - began
        said = self.output.read_text(errors="replace")[-3000:]
        must(code in allowed, f"the driver ended with exit code {code}; it said:\n{said}")
        return code

    def kill(self) -> None:
        """Whatever is left: nothing of ours stays behind where a promise was broken."""
        each(processes_with(self.mark), "kill")
        self.process.wait()


@contextlib.contextmanager
def driven(kind: str, folder: Path, seed: int, trials: int, *options: str) -> Iterator[Driver]:
    driver = Driver(kind, folder, seed, trials, *options)
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
