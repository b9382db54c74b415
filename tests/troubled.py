"""The blobs, with a model that makes the trouble it is asked for; and handlers that look on."""

import ctypes
import errno
import os
import sys
import threading
import time
from pathlib import Path

import torch
from ignite.engine import Events
from torch import nn

import blobs
from sweeper.run.processes import channel

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
dataset = blobs.dataset


class NotPicklable(Exception):
    def __init__(self):
        super().__init__("cannot be sent")
        self.lock = sys.stdout


def model(trouble: str = "none", stage: str = "tuning", seed: int = 0):
    # Only models of trials are made under a trial's handlers, which come after; so a file says.
    if stage == "tuning":
        cause(trouble)
    return blobs.model()


def cause(trouble: str) -> None:  # noqa: C901, PLR0912 - a table, one trouble a row
    match trouble:
        case "none" | "nan":
            return
        case "raise":
            raise RuntimeError("no model today")
        case "unpicklable":
            raise NotPicklable
        case "exit":
            sys.exit(3)
        case "_exit":
            os._exit(7)
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), 9)
        case "abort":
            os.abort()
        case "recursion":
            cause(trouble)
        case "interrupt":
            raise KeyboardInterrupt
        case "half":
            channel.Channel.send = send_half
        case "memory":
            raise MemoryError("no room")
        case "tensor":
            torch.empty(10**14)
        case "disk":
            raise OSError(errno.ENOSPC, "No space left on device", "model.pt")
        case "close":
            os.closerange(3, 256)
        case "silent":
            os.closerange(3, 256)
            threading.Event().wait()
        case "print":
            while True:
                print("for ever")  # noqa: T201 - that is the trouble
                time.sleep(0.001)
        case "wander":
            os.chdir("/")
            os.sched_setaffinity(0, range(os.cpu_count()))
            torch.set_num_threads(7)
        case "look":
            seen = (Path.cwd(), sorted(os.sched_getaffinity(0)), torch.get_num_threads())
            print("sees", *seen)  # noqa: T201 - for the test to read in the log
        case _:
            raise ValueError(trouble)


def send_half(self, message):
    self._socket.sendall(channel._framed(message)[:-1])
    os._exit(9)


def handlers(trainer, evaluator, trial):
    seen = Path(trial.folder) / "seen.txt"
    seen.write_text(f"{trial.number} {trial.seed} {dict(trial.params)}")
    params = trial.params
    if params.get("stage") == "every" or (params.get("stage") == "trial" and trial.number == 1):
        cause(params["trouble"])
        if params["trouble"] == "nan":

            def spoil(engine):
                x, y = engine.state.batch
                engine.state.batch = (x * torch.nan, y)

            trainer.add_event_handler(Events.ITERATION_STARTED(once=3), spoil)

    @evaluator.on(Events.COMPLETED)
    def note(engine):
        with seen.open("a") as file:
            metrics = engine.state.metrics
            file.write(f"\n{engine.state.dataset} {metrics['loss']} {metrics['performance']}")
