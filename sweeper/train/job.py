"""Executes a job in a worker: trains its replicas and yields their outcomes."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from sweeper.code.failures import describe
from sweeper.disk.arrays import pack_arrays
from sweeper.errors import ChangedCodeError
from sweeper.records import COMPILED, PACKED, Job, Outcome
from sweeper.train.eager import probes
from sweeper.train.eager.constant import constant_loss
from sweeper.train.eager.describe import describe as describe_point
from sweeper.train.mode.choose import choose_mode
from sweeper.train.mode.machine import check_products
from sweeper.train.native.toolchain import check_toolchain
from sweeper.train.packs.members import Member, most_members, shares
from sweeper.train.packs.probes import by_settings, probes_by_settings, train_probes
from sweeper.train.packs.trial import train_pack
from sweeper.train.problem.spec import TrainContext
from sweeper.train.replica.beginning import inheritance_of
from sweeper.train.replica.checkpoints import checkpoints_of
from sweeper.train.replica.curves import Trained
from sweeper.train.replica.models import model_path, save_models
from sweeper.train.replica.streams import Streams
from sweeper.train.tuning.names import LADDER, LR_RANGE
from sweeper.train.tuning.option_round import OptionRound
from sweeper.train.tuning.own import CONSTANT
from sweeper.train.tuning.stages import (
    BatchChoice,
    BatchRange,
    Check,
    ChooseMode,
    ChooseModes,
    Describe,
    LadderRound,
    LrRange,
)
from sweeper.train.tuning.trials import Trial, Trials
from sweeper.train.tuning.tried import Judged
from sweeper.train.vectorize.trace import CannotPackError
from sweeper.train.worker.first_look import begin_point, fingerprint_of
from sweeper.train.worker.opened import data_of
from sweeper.train.worker.task import Task


@dataclass(frozen=True, slots=True)
class _Found:
    """The results of a replica."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)


def execute(context: TrainContext, fd: int | None, job: Job) -> Iterator[Outcome]:
    """Train the job's replicas; yield each outcome, also failures, as it comes.

    Trials of a point that is trained in packs are trained together and come together.
    """
    torch.set_num_threads(context.threads)
    for task in _parts(Task.read(job)):
        if task.mode.is_packed:
            yield from _execute_packed(context, fd, task)
        else:
            yield from _execute_eager(context, fd, task)


def _parts(task: Task) -> list[Task]:
    """The task in parts that may be trained together."""
    match task.told:
        case Trials() as told:
            return by_settings(task, told)
        case LadderRound() | OptionRound() as told:
            return probes_by_settings(task, told)
        case _:
            return [task]


def _execute_eager(context: TrainContext, fd: int | None, task: Task) -> Iterator[Outcome]:
    for number in task.numbers:
        torch.set_num_threads(context.threads)  # the previous replica may have changed it
        work = functools.partial(_train, context, fd, task, number)
        yield _outcome(task, number, time.time(), work)


def _outcome(task: Task, number: int, started: float, work: Callable[[], _Found]) -> Outcome:
    outcome = Outcome(task.point, task.stage, number, started, started)
    try:
        found = work()
        arrays = pack_arrays(found.arrays)
        outcome = replace(outcome, metrics=found.metrics, arrays=arrays, info=found.info)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a model that calls sys.exit fails, too
        outcome = replace(outcome, failure=describe(error))
    return replace(outcome, ended=time.time())


# -- packs ----------------------------------------------------------------------------------------


def _execute_packed(context: TrainContext, fd: int | None, task: Task) -> Iterator[Outcome]:
    """Train the replicas with the steps that the point's other trials have, or not at all."""
    try:
        check_products(allow=context.allow_changed_code)
        compiled = task.mode.kind == COMPILED
        if compiled and not check_toolchain(
            task.mode.toolchain or "", allow=context.allow_changed_code
        ):
            task = replace(task, mode=replace(task.mode, kind=PACKED))
    except ChangedCodeError as error:
        for number in task.numbers:
            yield _outcome(task, number, time.time(), functools.partial(_raise, error))
        return
    match task.told:
        case Trials() as told:
            yield from _execute_packs(context, fd, task, told)
        case LadderRound() | OptionRound() as told:
            yield from _execute_probes(context, fd, task, told)


def _execute_probes(
    context: TrainContext, fd: int | None, task: Task, told: LadderRound | OptionRound
) -> Iterator[Outcome]:
    """Train probes that differ in rates and weight decay alone, in packs, as memory allows.

    If one cannot be packed, or fails, each is trained alone, and that one eagerly: this depends on
    the probe, not on the pack.
    """
    started = time.time()
    try:
        found = _train_probes(context, fd, task, told)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - as above
        if len(task.numbers) > 1:
            for number in task.numbers:
                yield from _execute_probes(context, fd, replace(task, numbers=(number,)), told)
        elif isinstance(error, CannotPackError):
            yield from _execute_eager(context, fd, task)
        else:
            yield _outcome(task, task.numbers[0], started, functools.partial(_raise, error))
        return
    # Each probe's share of the time, as for trials.
    share = (time.time() - started) / len(task.numbers)
    for place, number in enumerate(task.numbers):
        work = functools.partial(_judged, context, fd, task, number, found[number])
        outcome = _outcome(task, number, time.time(), work)
        begun = started + place * share
        yield replace(outcome, started=begun, ended=begun + share)


def _train_probes(
    context: TrainContext, fd: int | None, task: Task, told: LadderRound | OptionRound
) -> dict[int, Judged]:
    """What held-out samples say of the job's probes, by number.

    Raises:
        CannotPackError: a probe's trace differs from the point's.
    """
    torch.set_num_threads(context.threads)
    problem, data = data_of(context, fd, task)
    every = told.probes()
    chosen = [every[number] for number in task.numbers]
    size = chosen[0].batch_size

    def make(stream: int) -> Member:
        streams = Streams(context.seed, task.point, task.stage, stream)
        member = Member.make(problem, data, streams, task.params, size)
        if member.trace.digest != task.mode.trace:
            raise CannotPackError("its trace differs from the point's")
        return member

    return dict(train_probes(problem, data, chosen, task.mode.kind or PACKED, make))


def _execute_packs(
    context: TrainContext, fd: int | None, task: Task, told: Trials
) -> Iterator[Outcome]:
    """Train the trials in packs, as large as memory allows.

    A trial whose trace differs from the point's (its code changed, say) is trained eagerly: this
    depends on the trial, not on the pack.
    """
    members: list[Member] = []
    most, mode = len(task.numbers), task.mode.kind or PACKED
    for number in task.numbers:
        started = time.time()
        try:
            member = _member(context, fd, task, told, number)
            _begin_member(context, fd, task, told, member)
        except CannotPackError:
            work = functools.partial(_train, context, fd, task, number)
            yield _outcome(task, number, started, work)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            yield _outcome(task, number, started, functools.partial(_raise, error))
        else:
            members.append(member)
            most = most_members(member, mode)
    for begins in sorted({member.begins for member in members}):
        together = [member for member in members if member.begins == begins]
        for share in shares(together, most):
            yield from _execute_pack(context, fd, task, told, share)


def _execute_pack(
    context: TrainContext,
    fd: int | None,
    task: Task,
    told: Trials,
    members: Sequence[Member],
) -> Iterator[Outcome]:
    started = time.time()
    torch.set_num_threads(context.threads)  # a model may have changed it
    problem, data = data_of(context, fd, task)
    samples, mode = context.curve_samples, task.mode.kind or PACKED
    found = train_pack(problem, data, members, told, samples, mode)
    done: list[Outcome] = []
    try:
        for member, trained in found:
            number = member.streams.number
            work = functools.partial(_kept, context, task, number, trained)
            done.append(_outcome(task, number, started, work))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - as above
        rest = [member.streams.number for member in members[len(done) :]]
        if len(members) == 1:
            done.append(_outcome(task, rest[0], started, functools.partial(_raise, error)))
            rest = []
    else:
        rest = []
    # Each trial's share of the time, so that durations can be compared.
    share = (time.time() - started) / len(members)
    for place, outcome in enumerate(done):
        begun = started + place * share
        yield replace(outcome, started=begun, ended=begun + share)
    # Trained alone, each shows whether the error is its own; its bits do not depend on the pack.
    for number in rest:
        yield from _execute_packs(context, fd, replace(task, numbers=(number,)), told)


def _member(context: TrainContext, fd: int | None, task: Task, told: Trials, number: int) -> Member:
    problem, data = data_of(context, fd, task)
    streams = Streams(context.seed, task.point, task.stage, number)
    return Member.make(problem, data, streams, task.params, told.first.batch_size)


def _begin_member(
    context: TrainContext, fd: int | None, task: Task, told: Trials, member: Member
) -> None:
    """Let a member go on from its checkpoint, or begin from its parent.

    Raises:
        CannotPackError: its trace differs from the point's, or its parent has other states.
        ParentError: nothing can begin from the parent.
    """
    if member.trace.digest != task.mode.trace:
        raise CannotPackError("its trace differs from the point's")
    number = member.streams.number
    member.split = task.split_of(number)
    member.resume(checkpoints_of(context, task, number, told.of(number), task.mode.trace or ""))
    inherited = inheritance_of(context, fd, task, execute)
    if inherited is not None:
        problem, _ = data_of(context, fd, task)
        member.inherit(inherited, problem.recipe(member.model, task.params))


def _raise(error: BaseException) -> _Found:
    raise error


# -- one replica ----------------------------------------------------------------------------------


def _judged(
    context: TrainContext, fd: int | None, task: Task, number: int, judged: Judged
) -> _Found:
    """The results of a ladder probe; the first probe also gives what is measured once per point."""
    found = _Found(arrays=judged.arrays())
    if task.stage == LADDER and number == 0:
        return replace(
            found, metrics=_constant(context, fd, task), info=begin_point(context, fd, task)
        )
    return found


def _constant(context: TrainContext, fd: int | None, task: Task) -> dict[str, float]:
    """The loss of the best constant prediction; empty if there is none."""
    problem, data = data_of(context, fd, task)
    streams = Streams(context.seed, task.point, task.stage, 0)
    constant = constant_loss(problem, data, streams, task.params)
    return {CONSTANT: constant} if math.isfinite(constant) else {}


def _train(context: TrainContext, fd: int | None, task: Task, number: int) -> _Found:
    problem, data = data_of(context, fd, task)
    streams = Streams(context.seed, task.point, task.stage, number)
    match task.told:
        case Check() as told:
            notes = probes.run_check(problem, data, streams, task.params, told)
            return _Found(info={"notes": notes} if notes else {})
        case Describe() as told:
            info = describe_point(problem, data, context.data, streams, task.params, told)
            if not told.untuned:
                return _Found(info=info)
            info = {**info, **fingerprint_of(context, fd, task)}
            return _Found(_constant(context, fd, task), info=info)
        case ChooseMode(trials=trials) | ChooseModes(trials=trials):
            trial, samples = trials[number], context.curve_samples
            problem = problem.with_options(trial.options or {})
            found = choose_mode(problem, data, streams, task.params, trial, curve_samples=samples)
            return _Found(info=found.payload())
        case LadderRound() | OptionRound() as told:
            one = told.probes()[number]
            streams = Streams(context.seed, task.point, task.stage, one.stream)
            made = probes.Probe.make(problem.with_options(one.options), data, streams, task.params)
            judged = probes.run_ladder(made, one, streams)
            return _judged(context, fd, task, number, judged)
        case Trials() as told:
            return _train_trial(context, fd, task, told.of(number), number)
        case LrRange() | BatchRange() | BatchChoice() as told:
            return _run_range(context, fd, task, told, number)


def _train_trial(
    context: TrainContext, fd: int | None, task: Task, trial: Trial, number: int
) -> _Found:
    problem, data = data_of(context, fd, task)
    streams = Streams(context.seed, task.point, task.stage, number)
    folder = model_path(context, task, number).parent
    # Imports ignite, which takes as long as torch, so not before it is needed.
    from sweeper.train.eager.trial import train_trial

    inherited = inheritance_of(context, fd, task, execute)
    own, samples = data.of_trial(task.split_of(number)), context.curve_samples
    # What handlers keep in variables of their own cannot be restored.
    kept = None if problem.handlers is not None else checkpoints_of(context, task, number, trial)
    trained = train_trial(
        problem, own, streams, task.params, trial, samples, folder, kept, inherited
    )
    return _kept(context, task, number, trained)


def _run_range(
    context: TrainContext,
    fd: int | None,
    task: Task,
    told: LrRange | BatchRange | BatchChoice,
    number: int,
) -> _Found:
    problem, data = data_of(context, fd, task)
    streams = Streams(context.seed, task.point, task.stage, number)
    probe = probes.Probe.make(problem, data, streams, task.params)
    if isinstance(told, BatchRange):
        return _Found(*probes.run_batch_range(probe, told))
    if isinstance(told, BatchChoice):
        return _Found(*probes.run_batch_choice(probe, told, number))
    found = _Found(*probes.run_lr_range(probe, told))
    if task.stage == LR_RANGE and number == 0:
        return replace(found, info=begin_point(context, fd, task))
    return found


def _kept(context: TrainContext, task: Task, number: int, trained: Trained) -> _Found:
    """Save a trial's model; return its metrics, arrays and checksums."""
    info = save_models(context, task, number, trained) if context.save_models else {}
    return _Found(trained.metrics, trained.arrays, info)
