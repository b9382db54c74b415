"""Objectives that make trouble in their first trial, and look around in their second."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np


def objective(case, trial):
    if trial.number == 1:
        return look(trial)
    return CASES[case](trial)


def leaves_traces(x):
    """1 where it finds nothing that the trial before, often of the same job, has left."""
    found = (Path.cwd(), sorted(os.sched_getaffinity(0)), sys.stdout is sys.__stdout__)
    os.fstat(0)
    os.write(1, b"printed\n")
    FOUND.append(found)
    os.chdir("/")
    os.sched_setaffinity(0, range(os.cpu_count()))
    sys.stdout = None
    os.closerange(0, 2)
    return float(found == FOUND[0])


FOUND = []


def look(trial):
    """1 for all that is as a trial should find it."""
    sys.stdout.write(f"trial {trial.number} of {trial.params['case']}\n")
    sys.stdout.flush()
    with contextlib.suppress(OSError):
        log, errors = (Path(f"/proc/self/fd/{fd}").readlink() for fd in (1, 2))
        return {
            "value": trial.seed,
            "folder": Path.cwd() == Path(os.environ["PROGRAMS_CWD"]),
            "cores": len(os.sched_getaffinity(0)) == trial.cores,
            "output": (log.name, errors.name) == ("worker-0.stdout.log", "worker-0.stderr.log"),
            "printed": f"trial 1 of {trial.params['case']}\n" in log.read_text(),
        }
    return {"value": trial.seed, "output": 0}


def forks(trial):
    """And the child, too, returns from the objective."""
    return {"value": float(os.fork() == 0)}


def changes_folder(trial):
    os.chdir(trial.folder)
    return 1


def redirects(trial):
    with (trial.folder / "mine").open("w") as mine:
        os.dup2(mine.fileno(), 1)
        os.dup2(mine.fileno(), 2)
    sys.stdout = sys.stderr = (trial.folder / "other").open("w")
    return 1


def closes_output(trial):
    for stream in (sys.stdout, sys.stderr):
        stream.close()
    os.close(0)
    return 1


def closes_all(trial):
    os.closerange(3, 1000)
    return 1


def prints(trial):
    for _ in range(66):
        os.write(1, b"x" * (1 << 20))
    return 1


def leaves_children(trial):
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    (trial.folder / "child").write_text(str(child.pid))
    return 1


def sets_affinity(trial):
    os.sched_setaffinity(0, range(os.cpu_count()))
    return 1


def uses_threads(trial):
    found = []
    threads = [threading.Thread(target=found.append, args=(1,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(found)


def large(trial):
    return 1, {"large": np.zeros(100 << 20, dtype=np.uint8), "small": np.arange(3)}


def is_killed(trial):
    os.kill(os.getpid(), signal.SIGKILL)


def tensor(trial):
    import torch

    return torch.tensor([0.5])


def tensors(trial):
    import torch

    return torch.tensor([0.5, 1.0])


def interrupts(trial):
    raise KeyboardInterrupt


CASES = {
    "nothing": lambda _: None,
    "text": lambda _: "0.9",
    "tensor": tensor,
    "several numbers": tensors,
    "array": lambda _: np.arange(3),
    "empty dict": lambda _: {},
    "nan": lambda _: float("nan"),
    "text as a metric": lambda _: {"value": "high"},
    "another set": lambda _: {"value": 1, "more": 2},
    "large": large,
    "objects": lambda _: (1, {"mine": object()}),
    "forks": forks,
    "changes folder": changes_folder,
    "redirects": redirects,
    "closes output": closes_output,
    "closes all": closes_all,
    "prints": prints,
    "leaves children": leaves_children,
    "affinity": sets_affinity,
    "threads": uses_threads,
    "killed": is_killed,
    "exits": lambda _: sys.exit(3),
    "interrupts": interrupts,
}


def hangs(case):
    signal.pause()


def generates(case, trial):
    if case == "ends at once":
        return
    if case == "first raises":
        raise RuntimeError("before anything")
    count = 0
    while True:
        if case == "500th raises" and count == 499:
            raise RuntimeError("no 500th")
        if case == "text" and count == 3:
            yield "text"
        count += 1
        yield {"count": count}
