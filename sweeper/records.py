"""The frozen records that cross folders.

Nothing here computes: a record is checked when it is made and never changes.  Times are seconds
since the epoch, durations are seconds.  They stand in one long file because they are made of each
other: whoever follows an outcome through sweeper reads it from top to bottom.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from sweeper.errors import ParamError, SettingsError

Params: TypeAlias = tuple[Any, ...] | Mapping[str, Any]
"""The parameters of a point: a tuple is passed by position, a mapping by name."""

Kind: TypeAlias = Literal["tuning", "trial"]
"""A job's purpose: all that `run/` knows of it."""


class Reference(str):
    """`"module:Name"` of a class or function, where it was read from a file and not imported."""

    __slots__ = ()


ADDED = "added"
"""The folder, inside a sweep's, of points that another process has added."""

ARTIFACTS = "artifacts.npz"
"""The file, in a trial's folder, of the arrays that a program returned beside its metrics."""

ARTIFACTS_SHA256, RAISED = "sweeper.artifacts_sha256", "sweeper.raised"
"""Texts that an outcome of a program may have: the checksum of that file, and the traceback of an
exception in an iteration that ended the trial and was recorded.  No metric has such a name."""

PRINTED = (".stdout.log", ".stderr.log")
"""How the names of the files end, beside a worker's log, that a program's trial prints into."""

PROFILE = "profile.csv"
"""The file, in a trial's folder, of what it was profiled to spend."""

PROFILE_COLUMNS = ("function", "calls", "own_seconds", "seconds")
"""Its columns; `seconds` are with all that the function called."""

FINAL = "final"
"""The group of the trials that judge: fresh ones of the points that earlier groups have chosen."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A parameter's value with a short name.

    Tables, plots and CSV print the name; the model gets the value.  A point's identity is that of
    the value: asked for by value or by alias, it is the same point, shown by the name under which
    the folder first stored it.
    """

    value: Any
    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ParamError(
                f"Alias({self.value!r}, {self.name!r}): the name must be a text, not empty"
            )

    def __repr__(self) -> str:
        return f"Alias({self.value!r}, {self.name!r})"


NUMERICS = 3
"""The release of the numerics: raised by every change of a bit of a result.  1: matmul kernels as
MKL chooses them, losses of a set weighed by samples, logits of labels compared with 0.5.
2: a parameter that `model` takes goes to no other function."""

TRIAL = "trial"
"""The stage name of trials of the workload's own length; with a budget: see `trial_stage`."""

CHECK = "check"
"""The stage that checks the problem, once, on the first point: its failure is the problem's."""

DESCRIBE = "describe"
"""The stage that finds what a plan must know of a point beforehand: nothing is trained."""

CHOOSE_MODE = "way"
"""The stage that chooses the execution mode of a point's trials: nothing is trained."""

EAGER, PACKED, COMPILED = "plain", "flat", "compiled"
"""The execution modes: one by one by torch itself, in packs, or in packs by a compiled step.  The
stored values are the names of earlier releases."""

ROOT = "root"
"""The key, in the payload of a step, of what its replicas share with others (see `Work.root`)."""

UNTRAINED = (CHECK, DESCRIBE, CHOOSE_MODE)
"""The stages that train nothing."""


REFUSED = "refused"
"""What `FailureReport` has as the stage of a point whose parameters do not fit."""


def trial_stage(budget: int | None, lineage: str = "") -> str:
    """The stage name of trials with a budget: `"trial"` for None, `"trial@3"` for 3.

    The lineage of trials that begin from others follows: `"trial@3+1-0123456789abcdef"`.
    """
    stage = TRIAL if budget is None else f"{TRIAL}@{budget}"
    return f"{stage}+{lineage}" if lineage else stage


def is_trial(stage: str) -> bool:
    """Whether a stage is one of trials; every other stage is a stage of tuning."""
    return stage == TRIAL or stage.startswith((f"{TRIAL}@", f"{TRIAL}+"))


def budget_of(stage: str) -> int | None:
    """The budget of a stage of trials; None: the workload's own length."""
    _, at, budget = stage.partition("+")[0].partition("@")
    return int(budget) if at else None


def lineage_of(stage: str) -> str:
    """The lineage of a stage of trials; empty: they begin from nothing."""
    return stage.partition("+")[2]


def file_suffix(stage: str) -> str:
    """What names of files of a stage's trials end with: empty for those of `"trial"`."""
    return stage.removeprefix(TRIAL)


def descend(signature: str, stage: str, number: int) -> str:
    """The lineage of trials that begin from this one: their generation, and a digest of it.

    The stage has the lineage of the parent itself, so the digest is one of the whole chain.
    """
    text = f"{signature}\n{stage}\n{number}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{generation_of(lineage_of(stage)) + 1}-{digest}"


def generation_of(lineage: str) -> int:
    """How many trials lie before those of this lineage, one begun from the other."""
    return int(lineage.partition("-")[0]) if lineage else 0


SPARE = "spare"
"""The kind of the events that say which trials were released as spare ones (see `Spared`)."""


@dataclass(frozen=True, slots=True)
class KFold:
    """A value of a problem's `validation`: trial n validates on fold `n % folds`."""

    folds: int

    def __post_init__(self) -> None:
        if not isinstance(self.folds, int) or isinstance(self.folds, bool) or self.folds < 2:
            raise SettingsError(
                f"KFold(folds={self.folds!r}): folds must be a whole number of at least 2"
            )

    def __str__(self) -> str:
        return f"KFold({self.folds})"


LABELS = ("budget", "group", "generation", "parent", "lineage")
"""The columns of results that say of which trials of its point a row is, where any row has one."""


# -- points, and what is done for them ------------------------------------------------------------


DIRECTIONS = ("maximize", "minimize", "none")
"""Which values of a metric are better: large, small, or neither."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A named number that every trial measures."""

    name: str
    direction: str = DIRECTIONS[0]
    shown: bool = True
    """Whether tables have a column for it."""
    bounds: tuple[float, float] | None = None
    """The smallest and the largest possible value; None: no bounds."""


SHARES = frozenset({"acc", "accuracy", "auc", "f1"})
"""Words of the names of metrics that are from 0 to 1, or in per cent; larger values are better."""

CLASSIC = (
    Metric("perf_train", bounds=(0.0, 1.0)),
    Metric("loss_train", "minimize", shown=False),
    Metric("perf_val", bounds=(0.0, 1.0)),
    Metric("loss_val", "minimize", shown=False),
)
"""The metrics of every problem, in the order of the tuples that selectors get."""


@dataclass(frozen=True, slots=True)
class Point:
    """One combination of parameter values."""

    signature: str
    """SHA-256 in hexadecimal: the point's identity on every machine."""
    params: Params
    """As the selector gave them, with numpy scalars converted to Python's."""
    encoded: str
    """The stored encoding of `params` (see `sweeper.signature`), names in the given order."""
    width: int = 1
    """The cores, and compute threads, of each of its jobs; part of the signature, since it changes
    the last bits of results."""


@dataclass(frozen=True, slots=True)
class Parent:
    """A finished trial from which others begin.

    `TrialResults.as_parent` gives it for each trial that a selector is told of.
    """

    params: Params
    """Of its point."""
    trial: int
    """Its number, from 0 in the order of asking."""
    budget: int | None = None
    """Its budget, as asked for."""
    lineage: str = ""
    """The trials that it began from itself (see `descend`); empty: from nothing."""

    @property
    def stage(self) -> str:
        """The stage of the trial."""
        return trial_stage(self.budget, self.lineage)


@dataclass(frozen=True, slots=True)
class TunedSettings:
    """The result of tuning: the settings of a point's trials."""

    lr_min: float
    lr_max: float
    batch_size: int
    weight_decay: float | None = None
    """None: it was not tuned, as with the next."""
    momentum: float | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A stage of tuning has to run."""

    stage: str
    """Its name with its attempt (`"lr_range"`, `"lr_range.1"`)."""
    replicas: int
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tuned:
    """Trials may run: tuning has found their settings, or there is nothing to tune."""

    found: TunedSettings | None
    """None: the workload has nothing to tune."""
    payload: Mapping[str, Any]
    """The payload of a trial."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Tuning has failed."""

    stage: str
    """The stage that failed."""
    error: str


State: TypeAlias = Running | Tuned | Rejected


@dataclass(frozen=True, slots=True)
class Step:
    """Where a point's tuning stands, as stored: plain data, JSON.  `state` is its typed form."""

    stage: str
    """The stage's name with its attempt (`"lr_range"`, `"lr_range.1"`), or `"trial"` once tuned."""
    replicas: int = 0
    """How many probes the stage runs."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """The payload of the stage's replicas."""
    found: TunedSettings | None = None
    """What tuning has found; None: nothing yet, or there is nothing to tune."""
    error: str | None = None
    """Why tuning failed."""

    @property
    def is_tuned(self) -> bool:
        """Whether trials may run."""
        return self.stage == TRIAL and self.error is None

    @classmethod
    def of(cls, state: State) -> Step:
        """The stored form of `state`."""
        match state:
            case Running(stage, replicas, payload):
                return cls(stage, replicas, payload)
            case Tuned(found, payload):
                return cls(TRIAL, payload=payload, found=found)
            case Rejected(stage, error):
                return cls(stage, error=error)

    @property
    def state(self) -> State:
        """A stage to run, or how tuning ended."""
        if self.error is not None:
            return Rejected(self.stage, self.error)
        if self.is_tuned:
            return Tuned(self.found, self.payload)
        return Running(self.stage, self.replicas, self.payload)


@dataclass(frozen=True, slots=True)
class Work:
    """Replicas of one point and stage, released together and not yet divided into jobs.

    Work of kind `"trial"` says that the point's tuning is over; without numbers, that no trials
    follow.
    """

    point: str
    order: int
    """The point's place in the order of asking, from 0."""
    kind: Kind
    stage: str
    numbers: tuple[int, ...]
    payload: Mapping[str, Any] = field(default_factory=dict)
    """For the executor; opaque to `run/`."""
    expected: float | None = None
    """Expected seconds per replica; None: not known yet."""
    after: float | None = None
    """Expected seconds of the longest path after a replica: the remaining stages of tuning and one
    trial; None: not known yet."""
    most_cores: int | None = None
    """Maximum number of cores that jobs of this work may own at once; None: no limit."""
    together: int | None = None
    """Maximum number of replicas per job of this work; None: the queue's default.  No result
    depends on it."""
    width: int = 1
    """The cores, and compute threads, of each job."""
    root: str = ""
    """What its replicas share with others of the same root, so that a worker that has run one has
    less to do for the next; empty: nothing.  No result depends on it."""


@dataclass(frozen=True, slots=True)
class Job:
    """Some replicas of one work, run in one worker: one after the other, or as a pack."""

    id: int
    point: str
    kind: Kind
    stage: str
    numbers: tuple[int, ...]
    payload: Mapping[str, Any] = field(default_factory=dict)
    expected: float | None = None
    width: int = 1
    """Its cores, and compute threads."""
    root: str = ""
    """As `Work.root`."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default of a dataclass with slots takes several times as long, for every job.
        values = (self.id, self.point, self.kind, self.stage, self.numbers, self.payload)
        return Job, (*values, self.expected, self.width, self.root)


@dataclass(frozen=True, slots=True)
class Start:
    """The scheduler's decision: this job, in that slot, now."""

    job: Job
    slot: int
    """The slot whose worker runs it."""
    others: tuple[int, ...] = ()
    """Further slots whose cores the job owns, while their workers are idle."""
    devices: tuple[str, ...] = ()
    """Identifiers of the devices that the worker may use; empty: devices are not dealt out."""


@dataclass(frozen=True, slots=True)
class Target:
    """What workers execute, as names and values that are opaque to `run/`.

    `execute` is `"module:function"`; the function is called as `execute(context, fd, job)` and
    yields an `Outcome` for each of the job's replicas as it ends.  `fd` is a file descriptor that
    all workers share (training data), or None.  `preload` lists the modules that the fork server
    imports before it forks the first worker.
    """

    execute: str
    context: Any = None
    fd: int | None = None
    preload: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables set from a worker's start on, unless the driver's environment sets
    them."""


# -- what comes back ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a replica has no result."""

    kind: Literal["exception", "crash", "memory", "disk", "timeout", "changed", "stopped"]
    """`disk`: it is full.  `timeout`: stopped after `trial_timeout`.  `changed`: the problem's
    module has changed.  `stopped`: the worker was ended through no fault of the replica; this does
    not count as a try."""
    message: str
    """One line: what happened."""
    detail: str = ""
    """The traceback, or the likely cause and where to look."""


USAGE = "usage"
"""The name of the text of an `Outcome` that says what it used, as JSON (see `Usage`): stored apart
from its arrays."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a trial of a program used, and where it ran."""

    started: float
    ended: float
    cpu_seconds: float
    """Of its process and of child processes that have ended."""
    peak_bytes: int
    """Peak resident memory of its process and children together, as far as it was seen."""
    host: str
    cores: tuple[int, ...]
    """The logical CPUs that it was bound to."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one replica: its metrics, arrays and texts, or its failure."""

    point: str
    stage: str
    number: int
    started: float
    ended: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    arrays: bytes = b""
    """An `.npz` without pickled objects, or empty."""
    failure: Failure | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    """By name, one text or a list of texts.  Folders store them among the arrays."""

    def __reduce__(self) -> tuple[Any, ...]:
        # As for `Job`.
        when = (self.started, self.ended)
        what = (self.metrics, self.arrays, self.failure, self.info)
        return Outcome, (self.point, self.stage, self.number, *when, *what)


RETRYABLE = frozenset({"memory", "disk"})
"""Failures that a worker survives and that may not recur: each counts as a try, as a death does."""

NOT_ITS_FAULT = frozenset({"stopped", "disk"})
"""Failures that are not the replica's fault: on resume they do not count as tries."""


def give_up(point: str, stage: str, number: int, cause: Failure, tries: int) -> Outcome:
    """The outcome of a replica that is given up after `tries` tries."""
    message = f"{cause.message}, {tries} times" if tries > 1 else cause.message
    failure = dataclasses.replace(cause, message=message)
    return Outcome(point, stage, number, 0.0, 0.0, failure=failure)


@dataclass(frozen=True, slots=True)
class Died:
    """A backend's message: the worker of this slot has died."""

    slot: int
    cause: Failure


@dataclass(frozen=True, slots=True)
class Result:
    """A backend's message: a replica of the job in this slot has ended."""

    slot: int
    outcome: Outcome


Message: TypeAlias = Died | Result


# -- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """A job was handed to a worker."""

    time: float
    job: Job
    slot: int
    others: tuple[int, ...] = ()
    """Further slots that it takes."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One replica has its outcome."""

    time: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Lost:
    """These replicas of a job have no outcome: their worker died, or memory or disk was full.

    For the first this counts as a try; the others were never begun.
    """

    time: float
    job: Job
    numbers: tuple[int, ...]
    cause: Failure


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing happened for a while; points may have come from elsewhere."""

    time: float


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The user, or the system, asked to stop."""

    time: float
    signal: int


Event: TypeAlias = Started | Finished | Lost | Tick | Interrupted


# -- what the study decides -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """The selector was asked; `point` is None if it answered that it waits."""

    point: Point | None
    trials: int = 0
    id: int = -1
    """The number of the point's folder, from 0 in the order of first asking."""
    budget: int | None = None
    """The budget of these trials; None: the workload's own length."""
    group: str = ""
    """The selector's label for them."""
    parent: Parent | None = None
    """The trial that they begin from."""
    lineage: str = ""
    """Their lineage: what `parent` stands for, as part of their identity."""

    @property
    def stage(self) -> str:
        """The stage of these trials."""
        return trial_stage(self.budget, self.lineage)


@dataclass(frozen=True, slots=True)
class Told:
    """The selector was told of one point: settings found, trials completed, or a failure.

    Without trial numbers: an ask was complete, and nothing of it was left to tell.
    """

    point: str
    what: Literal["hparams", "trials", "failed"]
    numbers: tuple[int, ...] = ()
    budget: int | None = None
    """The budget of these trials."""
    lineage: str = ""
    """Their lineage."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A point's tuning took a step."""

    point: str
    step: Step
    """The stage to run next, or how tuning ended."""
    after: str = ""
    """The stage that ended; empty for a point's first step."""
    choice: Mapping[str, Any] = field(default_factory=dict)
    """What the stage decided, and why: plain data."""
    arrays: bytes = b""
    """The curves behind the decision, an `.npz`."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A replica has used up its tries: its outcome is that failure."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Refused:
    """The selector asked for a point whose parameters do not fit; it is not trained."""

    encoded: str
    """The stored encoding of its parameters (see `sweeper.signature`)."""
    message: str
    """Why."""


@dataclass(frozen=True, slots=True)
class Spared:
    """A spare trial was released, which nobody has asked for: it counts once it has ended."""

    point: str
    stage: str
    number: int


Decision: TypeAlias = Asked | Told | Planned | GaveUp | Refused | Spared


@dataclass(frozen=True, slots=True)
class RecordedTrials:
    """The results of a point's trials, only what a study needs: there may be a million."""

    ended: Mapping[int, tuple[float, ...] | Failure] = field(default_factory=dict)
    """By trial number, in order: the metrics in the order in which the store was asked for them."""
    seconds: float = math.nan
    """Seconds that the last trial without a failure took."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a folder has recorded, from which the study resumes."""

    steps: Mapping[str, Step] = field(default_factory=dict)
    """By signature: where the point's tuning stands."""
    trials: Mapping[str, RecordedTrials] = field(default_factory=dict)
    """By signature, where there are any: trials without a budget."""
    staged: Mapping[str, Mapping[str, RecordedTrials]] = field(default_factory=dict)
    """By signature and stage, where there are any: trials with a budget or a parent."""
    probes: Mapping[str, tuple[Outcome, ...]] = field(default_factory=dict)
    """By signature, where there are any: the probes of the current stage of tuning."""
    tries: Mapping[tuple[str, str, int], tuple[Failure, ...]] = field(default_factory=dict)
    """By signature, stage and number: how workers died while running the replica."""
    ids: Mapping[str, int] = field(default_factory=dict)
    """By signature: the number of a point's folder."""
    log: tuple[Asked | Told, ...] = ()
    """What this selector asked and was told, in order."""


# -- what a person sees while it runs -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Best:
    """The best point so far."""

    params: Params
    mean: float
    """Of the metric that points are judged by: of a problem `perf_val`."""
    trials: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sweep has come."""

    tuning: int
    training: int
    done: int
    failed: int
    waiting: int
    """Points asked for whose tuning has not begun."""
    trials_done: int
    trials_failed: int
    trials_asked: int
    running: tuple[tuple[int, str, float], ...]
    """For each busy slot: its number, what it does, and since when."""
    slots: int
    best: Best | None
    seconds_left: float | None
    """From observed speeds; None while too little is known."""

    @property
    def points(self) -> int:
        """All points asked for."""
        return self.tuning + self.training + self.done + self.failed + self.waiting


@dataclass(frozen=True, slots=True)
class FolderProgress(Progress):
    """How far a sweep has come, as any process finds it in its folder."""

    folder: str
    workload: str
    """What is swept, by name."""
    state: Literal["running", "resting", "finished"]
    """running: a process drives it.  finished: nothing is left to train, and no points are awaited.
    resting: any other; the same call goes on."""
    driver: str | None
    """The process that drives the folder."""
    seen: float
    """When the folder was read."""
    last: float | None
    """When the last replica ended."""
    trials_per_hour: float | None
    """Of the run that goes on, or else of the last one; None: no trial has ended in it."""

    @property
    def ends(self) -> float | None:
        """The estimated end, in seconds since the epoch; None: it does not run, or is not known."""
        running = self.state == "running" and self.seconds_left is not None
        return self.seen + (self.seconds_left or 0.0) if running else None


@dataclass(frozen=True, slots=True)
class Status:
    """How far a folder has come, whether its sweep runs or not."""

    folder: str
    identity: Mapping[str, Any]
    """Problem, seed, curve_samples, and the settings by name."""
    phases: Mapping[str, int]
    """Points by phase: waiting, tuning, training, done, failed."""
    trials_done: int
    trials_failed: int
    """Included in `trials_done`."""
    trials_asked: int
    driver: str | None
    """The process that drives the folder at the moment."""
    began: float | None
    """When the first replica started, in seconds since the epoch."""
    last: float | None
    """When the last replica ended."""
