"""Helpers for tests of trials in segments."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from sweeper.train.eager.trial import train_trial
from sweeper.train.packs.members import Member
from sweeper.train.packs.step import NativeStep, PackedStep
from sweeper.train.packs.trial import train_pack
from sweeper.train.problem.optimizer.recipe import Clipping
from sweeper.train.replica.checkpoints import Checkpoints
from sweeper.train.tuning.trials import Trials
from test_probes import PARAMS, TRIAL, bits, data_of, problem_of, streams_of, with_state

LONG = replace(TRIAL, cycle_epochs=1, cycles=10, steps=50)


ADAM = {"name": "adamw", "weight_decay": 0.1}
ALWAYS, NEVER = 0.0, 1e9
IDENTITY = hashlib.sha256(b"what its bits depend on").hexdigest()


class Killed(BaseException):
    """In place of a signal: nothing of the trial goes on after it."""


def checkpoints(folder, number, told, every=ALWAYS, identity=IDENTITY, **how):
    suffix = "" if told.own_cycles is None else f"@{told.cycles}"
    return Checkpoints(folder / f"{number}{suffix}", lambda: identity, told, every, **how)


def eager(folder, told, numbers=(0,), problem=None, data=None, **how):
    """Trials one by one, with their checkpoints in a folder, if one is given."""
    problem, data = problem or problem_of(with_state, optimizer=ADAM), data or data_of()
    return {
        number: train_trial(
            problem,
            data,
            streams_of(number, "trial"),
            PARAMS,
            told,
            6,
            folder,
            checkpoints(folder, number, told, **how) if folder else None,
        )
        for number in numbers
    }


def packed(folder, told, numbers=(0, 1, 2), problem=None, data=None, mode="flat", **how):
    problem, data = problem or problem_of(with_state, optimizer=ADAM), data or data_of()
    members = []
    for number in numbers:
        streams = streams_of(number, "trial")
        member = Member.make(problem, data, streams, PARAMS, told.batch_size)
        if folder:
            member.resume(checkpoints(folder, number, told, **how))
        members.append(member)
    found = {}
    for begins in {member.begins for member in members}:
        together = [member for member in members if member.begins == begins]
        trained = train_pack(problem, data, together, Trials(told), 6, mode)
        found |= {member.streams.number: one for member, one in trained}
    return found


class Steps(list):
    """The training steps made; one is the last before a kill."""

    kill_at = None

    def clear(self):
        super().clear()
        self.kill_at = None

    def note(self):
        if len(self) == self.kill_at:
            raise Killed
        self.append(1)


def count_steps(monkeypatch):
    """Count the training steps of every kind."""
    made = Steps()

    def counted(kind, name):
        original = getattr(kind, name)

        def call(self, *given, **named):
            made.note()
            return original(self, *given, **named)

        monkeypatch.setattr(kind, name, call)

    counted(PackedStep, "__call__")
    counted(NativeStep, "__call__")
    counted(Clipping, "apply")  # once in each eager step
    return made


def kill(train, folder, steps, moment, problem=None):
    steps.clear()
    steps.kill_at = moment
    with pytest.raises(Killed):
        train(folder, LONG, (0,), problem=problem)
    steps.clear()


def alike(one, other):
    assert bits(one.model) == bits(other.model)
    assert repr(one.metrics) == repr(other.metrics)
    assert {k: v.tobytes() for k, v in one.arrays.items()} == {
        k: v.tobytes() for k, v in other.arrays.items()
    }
