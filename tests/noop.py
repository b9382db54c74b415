"""Sweeps whose jobs are made up and take no time, by a driver that is a process of its own.

    python -m tests.noop FOLDER '{"action": "SIGKILL", "at": 7, …}'

Study, store, loop and backends are the product's; torch is not imported.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from sweeper.code.references import find_importable
from sweeper.engine.drive import drive
from sweeper.records import TRIAL, Job, Outcome, Start, Target
from sweeper.run.backends.inline import InlineBackend
from sweeper.run.backends.local import LocalBackend, prepare
from sweeper.run.processes import channel
from sweeper.run.processes.signals import Interrupts
from sweeper.run.scheduler import Scheduler
from sweeper.show.progress import make_view
from sweeper.signature import decode
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.study import Study
from sweeper.testing.toy import ToyPlan, draw, metrics_of, perf_arrays, point_of
from tests.toys import Listed

ASKS = [((0,), 2), ((1,), 1), ((2,), 3)]
PRELOAD = ("tests.noop",)


# -- in the worker --------------------------------------------------------------------------------


def execute(context, fd, job):
    """A job's outcomes; `context["dies"]` says over which points its worker dies once, and when."""
    params = decode(job.payload["params"], find_importable)
    dies = context.get("dies", {}).get(str(params[0])) if job.stage == TRIAL else None
    die(context, dies, "loading")
    for number in job.numbers:
        now = time.time()
        outcome = Outcome(job.point, job.stage, number, now, now)
        if job.stage == TRIAL:
            values = {"metrics": metrics_of(params, number)}
        else:
            values = {"arrays": perf_arrays(draw(params, job.stage, number, "perf"))}
        die(context, dies, "training")
        die(context, dies, "writing")
        die(context, dies, "sending")
        yield Outcome(outcome.point, outcome.stage, number, now, time.time(), **values)
        die(context, dies, "idle")


def die(context, dies, when):
    """End this worker if this is when it dies, and if it has not done so before."""
    if dies != when:
        return
    try:  # of two workers that come here at once, one dies
        mark = os.open(Path(context["marks"]) / when, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    if when == "writing":
        os.write(mark, b"half a mod")
    os.close(mark)
    if when == "sending":
        channel.Channel.send = send_half
        return
    os.kill(os.getpid(), signal.SIGKILL)


def send_half(self, message):
    self._socket.sendall(channel._framed(message)[:-1])
    os.kill(os.getpid(), signal.SIGKILL)


STATES = ("busy", "deaf", "holding", "stopped", "waiting", "idle")
"""In which a driver may leave its workers."""


def remain(_context, fd, job):
    """Come into a state, with a child of one's own, say so, and stay there."""
    state = STATES[job.numbers[0]]
    subprocess.Popen(["sleep", "1000"])
    if state == "deaf":
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    os.write(fd, f"{state}\n".encode())
    match state:
        case "busy":
            while True:
                pass
        case "holding":  # no other thread of this worker runs any more
            ctypes.PyDLL(None).sleep(1000)
        case "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "waiting" | "deaf":
            os.read(os.pipe()[0], 1)
    yield Outcome("", "", job.numbers[0], 0.0, 0.0)


# -- the driver -----------------------------------------------------------------------------------


def sweep(folder, options):
    """One driver, as `sweeper.engine.engine` does it."""
    paths = Paths(Path(folder))
    connect = acting(options["action"], options["at"]) if "action" in options else sqlite3.connect
    selector = Listed([(tuple(params), trials) for params, trials in options.get("asks", ASKS)])
    slots = options.get("slots", 1)
    target = Target("tests.noop:execute", options.get("context", {}), preload=PRELOAD)
    with Store.open(paths.database, connect) as store, Interrupts() as interrupts:
        study = Study(
            selector,
            ToyPlan(),
            point_of,
            most_cores=4,
            slots=slots,
            recorded=store.recorded("Listed", log=False),
        )
        store.begin(study.begin(), "Listed", keep_log=False)
        backend = InlineBackend(target)
        if options.get("backend") == "local":
            backend = LocalBackend([()] * slots, pinned=False, target=target, logs=paths.logs)
        try:
            view = make_view(progress=False)
            scheduler = Scheduler(slots)
            # Where each look at the clock takes a second, every outcome has a commit of its own.
            clock = itertools.count(1e9).__next__ if options.get("slowly") else time.monotonic
            interrupted = drive(study, scheduler, backend, interrupts, store, view, clock, clock)
        finally:
            backend.close()
            store.append(())
        if not interrupted:
            study.check_stalled()
        return interrupted


def acting(action, at):
    """Connections over which the driver sends itself a signal at one of its commits.

    The n-th commit has two moments, before it (2 n) and after it (2 n + 1).
    """
    moments = itertools.count()

    def act():
        if next(moments) == at:
            os.kill(os.getpid(), getattr(signal, action))

    class Acting(sqlite3.Connection):
        def execute(self, sql, *values):
            if sql != "COMMIT":
                return super().execute(sql, *values)
            act()
            found = super().execute(sql, *values)
            act()
            return found

    return lambda *arguments, **options: sqlite3.connect(*arguments, factory=Acting, **options)


def kill_everywhere(folder):
    """Kill a driver at every moment there is, each time in a new folder, and go on where it was.

    Gives how many moments there are.  Each driver is forked from here, which has all imports.
    """
    for at in itertools.count():
        here, options = Path(folder) / str(at), {"slowly": True}
        code = forked(here, {**options, "action": "SIGKILL", "at": at})
        assert code in (0, -signal.SIGKILL), code
        again = forked(here, options)
        assert again == 0, f"killed at moment {at}, it did not go on: {again}"
        if code == 0:
            return at
    raise AssertionError


def kill_often(folder, times):
    """Kill one driver after the other in the same folder, then let the last one come to the end."""
    rng = random.Random(times)
    for _ in range(times):
        options = {"slowly": True, "action": "SIGKILL", "at": rng.randrange(8)}
        code = forked(folder, options)
        assert code == -signal.SIGKILL, code
    assert forked(folder, {"slowly": True}) == 0


def forked(folder, options):
    """The exit code of a driver; negative: the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            sweep(folder, options)
        except BaseException:  # noqa: BLE001 - a forked child must never return
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def keep_workers(folder):
    """Have a worker in each of `STATES`, say so, and wait until none is left."""
    reading, writing = os.pipe()
    target = Target("tests.noop:remain", None, writing, PRELOAD)
    slots = [()] * len(STATES)
    backend = LocalBackend(slots, pinned=False, target=target, logs=Path(folder) / "logs")
    backend.start([Start(Job(n, "", "trial", "", (n,)), n) for n in range(len(STATES))])
    said = b""
    while said.count(b"\n") < len(STATES):
        said += os.read(reading, 1000)
    with Interrupts() as interrupts:
        backend.wait(None, interrupts)  # one has ended its job, and is idle
        os.write(1, b"ready\n")
        left = set(STATES)
        while left and interrupts.signal is None:
            for message in backend.wait(None, interrupts):
                left.discard(STATES[message.slot])
                os.write(1, f"{STATES[message.slot]}: {message.cause.message}\n".encode())
    backend.close()


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    given = json.loads(sys.argv[2])
    match given.pop("do", "sweep"):
        case "sweep":
            sys.exit(3 if sweep(sys.argv[1], given) else 0)
        case "kill everywhere":
            os.write(1, f"{kill_everywhere(sys.argv[1])}\n".encode())
        case "kill often":
            kill_often(sys.argv[1], given["times"])
        case "keep workers":
            keep_workers(sys.argv[1])
        case "import":
            prepare(("tests.noop_blocking",))
            signal.pause()
