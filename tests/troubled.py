"""The blobs, with a model that makes the trouble it is asked for; and handlers that look on."""

import ctypes
import os
import sys
from pathlib import Path

import torch
from ignite.engine import Events
from torch import nn

import blobs

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
dataset = blobs.dataset


class NotPicklable(Exception):
    def __init__(self):
        super().__init__("cannot be sent")
        self.lock = sys.stdout


def model(trouble: str = "none", stage: str = "tuning"):
    # Only models of trials are made under a trial's handlers, which come after; so a file says.
    if stage == "tuning":
        cause(trouble)
    return blobs.model()


def cause(trouble: str) -> None:
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
        case _:
            raise ValueError(trouble)


def handlers(trainer, evaluator, trial):
    seen = Path(trial.folder) / "seen.txt"
    seen.write_text(f"{trial.number} {trial.seed} {dict(trial.params)}")
    params = trial.params
    if params.get("stage") == "trial" and trial.number == 1:
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
