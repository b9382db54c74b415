"""The frozen records that cross folders, and the settings.

Nothing here computes: a record is checked when it is made and never changes.  Times are seconds
since the epoch, durations are seconds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from sweeper.errors import SettingsError

Params: TypeAlias = tuple[Any, ...] | Mapping[str, Any]
"""The parameters of a point: a tuple is passed by position, a mapping by name."""

Kind: TypeAlias = Literal["tuning", "trial"]
"""All that `run/` knows of a job's purpose."""


class Reference(str):
    """`"module:Name"` of a class or function, where it was read from a file and not imported."""

    __slots__ = ()


NUMERICS = 2
"""The release of the numerics: raised by whatever changes a bit of a result.  1: products as MKL
chooses them, losses of a set weighed by samples, logits of labels compared with 0.5."""

TRIAL = "trial"
"""The stage name of trials; every other stage is a stage of tuning."""

CHECK = "check"
"""The stage at which a failure is a fault of the problem: made once, for the first point."""

WAY = "way"
"""The stage at which it is found out how a point's trials may be trained: nothing is trained."""


@dataclass(frozen=True, slots=True)
class KFold:
    """What a problem's `validation` may be: trial n validates on fold `n % folds`."""

    folds: int

    def __post_init__(self) -> None:
        if not isinstance(self.folds, int) or isinstance(self.folds, bool) or self.folds < 2:
            raise SettingsError(
                f"KFold(folds={self.folds!r}): folds must be a whole number of at least 2"
            )

    def __str__(self) -> str:
        return f"KFold({self.folds})"


# -- points, and what is done for them ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """One combination of parameter values."""

    signature: str
    """SHA-256 in hexadecimal: the point's identity on every machine."""
    params: Params
    """As the selector gave them, numpy scalars made Python's."""
    encoded: str
    """The encoding of `params` that files keep (see `sweeper.signature`), names in their order."""


@dataclass(frozen=True, slots=True)
class Found:
    """What tuning came to: the settings of a point's trials."""

    lr_min: float
    lr_max: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class Step:
    """Where a point's tuning stands: a stage to run, or how it ended.  Plain data, kept as JSON."""

    stage: str
    """The stage's name with its attempt (`"lr_range"`, `"lr_range.1"`), or `"trial"` once found."""
    replicas: int = 0
    """How many probes the stage runs."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """What a replica of the stage is told."""
    found: Found | None = None
    error: str | None = None
    """Why tuning failed."""


@dataclass(frozen=True, slots=True)
class Work:
    """Replicas of one point and stage, released together and not yet divided into jobs.

    Work of kind `"trial"` says that the point's tuning is over; with no numbers, that nothing
    follows it.
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
    """Seconds that one replica is expected to take; None: not known yet."""
    after: float | None = None
    """Seconds that the longest path behind a replica is expected to take: the stages of tuning that
    follow and one trial; None: not known yet."""
    most_cores: int | None = None
    """The most cores that jobs of this work may own at once; None: no limit."""
    together: int | None = None
    """The most replicas that one job of this work gets; None: the queue knows.  No result depends
    on it."""


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

    def __reduce__(self) -> tuple[Any, ...]:
        # What a dataclass with slots does by itself takes several times as long, for every job.
        values = (self.id, self.point, self.kind, self.stage, self.numbers, self.payload)
        return Job, (*values, self.expected)


@dataclass(frozen=True, slots=True)
class Start:
    """The scheduler's decision: this job, in that slot, now."""

    job: Job
    slot: int


@dataclass(frozen=True, slots=True)
class Target:
    """What workers execute: told to `run/` as names and opaque values.

    `execute` is `"module:function"`; the function is called as `execute(context, fd, job)` and
    yields an `Outcome` for each of the job's replicas as it ends.  `fd` is a file descriptor that
    every worker shares (training data), or None.  `preload` are the modules that the fork server
    imports before the first worker is made.
    """

    execute: str
    context: Any = None
    fd: int | None = None
    preload: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that workers have from their first operation on, unless the driver has them."""


# -- what comes back ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a replica has no result."""

    kind: Literal["exception", "crash", "memory", "disk", "timeout", "changed", "stopped"]
    """`disk`: it is full.  `timeout`: stopped after `trial_timeout`.  `changed`: the problem's
    module is not what it was.  `stopped`: the worker was ended through no fault of the replica,
    which does not count as a try."""
    message: str
    """One line: what happened."""
    detail: str = ""
    """The traceback, or the likely cause and where to look."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one replica came to: its metrics and arrays, or its failure."""

    point: str
    stage: str
    number: int
    started: float
    ended: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    arrays: bytes = b""
    """An `.npz` without pickled objects, or empty."""
    failure: Failure | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # As for `Job`.
        when = (self.started, self.ended)
        what = (self.metrics, self.arrays, self.failure)
        return Outcome, (self.point, self.stage, self.number, *when, *what)


TRIED_AGAIN = frozenset({"memory", "disk"})
"""Failures that a worker survives and that may not come again: a try, as its death is."""

NOT_ITS_FAULT = frozenset({"stopped", "disk"})
"""Failures that say nothing of the replica: as a sweep goes on they are not counted as tries."""


def give_up(point: str, stage: str, number: int, cause: Failure, tries: int) -> Outcome:
    """The outcome of a replica that was begun so often and never ended."""
    message = f"{cause.message}, {tries} times" if tries > 1 else cause.message
    failure = dataclasses.replace(cause, message=message)
    return Outcome(point, stage, number, 0.0, 0.0, failure=failure)


@dataclass(frozen=True, slots=True)
class Died:
    """A backend's message: the worker of this slot is gone."""

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


@dataclass(frozen=True, slots=True)
class Finished:
    """One replica has its outcome."""

    time: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Lost:
    """These replicas of a job have no outcome: their worker died, or there was no room for them.

    The first is counted a try; those after it were never begun.
    """

    time: float
    job: Job
    numbers: tuple[int, ...]
    cause: Failure


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing happened for a while; points may have come from outside."""

    time: float


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The person, or the system, asked to stop."""

    time: float
    signal: int


Event: TypeAlias = Started | Finished | Lost | Tick | Interrupted


# -- what the study decides -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """The selector was asked; `point` is None where it answered that it waits."""

    point: Point | None
    trials: int = 0
    id: int = -1
    """The number under which the point's files are, from 0 in the order of first asking."""


@dataclass(frozen=True, slots=True)
class Told:
    """The selector was told: settings found, trials completed, or a failure, of one point.

    No numbers of trials: an ask was complete of which nothing was left to tell.
    """

    point: str
    what: Literal["hparams", "trials", "failed"]
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """A point's tuning took a step."""

    point: str
    step: Step
    """The stage to run next, or how tuning ended."""
    after: str = ""
    """The stage that ended; empty for a point's first step."""
    choice: Mapping[str, Any] = field(default_factory=dict)
    """What the stage came to, and why: plain data."""
    arrays: bytes = b""
    """The curves that it was decided by, an `.npz`."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A replica was begun as often as it may be: its outcome is that failure."""

    outcome: Outcome


Decision: TypeAlias = Asked | Told | Planned | GaveUp


@dataclass(frozen=True, slots=True)
class Trials:
    """What a point's trials came to, as little of it as a study needs: there may be a million."""

    ended: Mapping[int, tuple[float, ...] | Failure] = field(default_factory=dict)
    """By number, in that order: the metrics in the order of `sweeper.results.METRICS`."""
    seconds: float = math.nan
    """How long the last took that did not fail."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a folder remembers, for the study to go on from."""

    steps: Mapping[str, Step] = field(default_factory=dict)
    """By signature: where the point's tuning stands."""
    trials: Mapping[str, Trials] = field(default_factory=dict)
    """By signature, where there are any."""
    probes: Mapping[str, tuple[Outcome, ...]] = field(default_factory=dict)
    """By signature, where there are any: those of the stage at which tuning stands."""
    tries: Mapping[tuple[str, str, int], tuple[Failure, ...]] = field(default_factory=dict)
    """By signature, stage and number: how workers died over it."""
    ids: Mapping[str, int] = field(default_factory=dict)
    """By signature: the number under which a point's files are."""
    log: tuple[Asked | Told, ...] = ()
    """What this selector asked and was told, in order."""


# -- what a person sees while it runs -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Best:
    """The point that leads so far, by mean validation performance."""

    params: Params
    perf_val: float
    trials: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sweep is."""

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


# -- settings -------------------------------------------------------------------------------------

Length: TypeAlias = int | float
"""How long a probe trains: an int counts samples, a float epochs."""


@dataclass(frozen=True, slots=True)
class HyperparameterSettings:
    """How much care goes into tuning each point, and how long a trial is.

    The presets are made by `get_settings`; the defaults here are those of `fast` and are never
    changed, since a field at its default is left out of signatures: so a field that is added later
    does not orphan the folders that exist.

    Raises:
        SettingsError: a field breaks its rule, or belongs to the other `method`; the message names
            field, value and rule.
    """

    method: str = field(default="ladder", metadata={"absent": "ranges"})
    """`"ladder"` tries peak rates in powers of two through whole cycles and compares held-out
    losses (see `docs/method.md`); `"ranges"` is the range test of earlier releases."""
    tunings: int = 3
    """How often a point is tuned, each time independently; trial n takes the settings of tuning
    `n % tunings`."""
    probe_inits: int = 1
    """Ladder: the initialisations of a candidate in the last round of a tuning."""
    probe_length: float = 1.0
    """Ladder: a factor on how long probes train."""
    lr: float | None = None
    """The peak learning rate of every trial; None: tuned."""
    batch_size: int | None = None
    """The batch size of every trial; None: tuned."""
    schedule: str = "triangular"
    """How the learning rate goes in trials and probes: `"triangular"`, `"one_cycle"`, `"cosine"` or
    `"constant"` (see `sweeper.train.tuning.schedule`)."""
    warmup: float = 0.0
    """The share of a training's steps in which the rate rises linearly at first."""

    lr_start: float = 1e-6
    lr_end: float = 1.0
    lr_sweep_len: Length = 6.0
    lr_min_inits: int = 1
    lr_width_only_gradients: bool = False
    batch_start: int = 16
    batch_end: int = 128
    batch_rn_min_inits: int = 1
    batch_pts: int = 3
    batch_pt_min_inits: int = 1
    rescan_lr_after_bs: bool = False
    warmup_lr: float = 1e-6
    warmup_batch: int = 64
    warmup_pts: Length = 0.1
    cycle_epochs: int | None = None
    cycles: int = 4
    epochs: int | None = None
    """Of a trial in all; None: `cycles` of `cycle_epochs`."""

    def __post_init__(self) -> None:
        for name, (rule, holds) in _RULES.items():
            value = getattr(self, name)
            if not holds(value):
                raise SettingsError(f"{name}={value!r}: it must be {rule}")
            if (rule, holds) in (_RATE, _RATE_OR_NONE, _SHARE) and value is not None:
                object.__setattr__(self, name, float(value))
        self._check_method()
        self._check_epochs()
        if not self.lr_start < self.lr_end:
            raise SettingsError(
                f"lr_start={self.lr_start!r}: it must be below lr_end, which is {self.lr_end!r}"
            )
        if not self.batch_start < self.batch_end:
            raise SettingsError(
                f"batch_start={self.batch_start!r}: it must be below batch_end, "
                f"which is {self.batch_end!r}"
            )

    def _check_epochs(self) -> None:
        if self.epochs is None:
            return
        if self.cycle_epochs is not None:
            raise SettingsError(
                f"epochs={self.epochs!r} and cycle_epochs={self.cycle_epochs!r}: give one of them"
            )
        if self.epochs % self.cycles:
            raise SettingsError(
                f"epochs={self.epochs!r}: it must be a multiple of cycles, which is {self.cycles!r}"
            )

    def _check_method(self) -> None:
        for one in dataclasses.fields(self):
            owner = next((name for name, names in _FIELDS.items() if one.name in names), None)
            value = getattr(self, one.name)
            if owner not in (None, self.method) and value != one.default:
                raise SettingsError(
                    f"{one.name}={value!r}: it belongs to method={owner!r}, and the method is "
                    f"{self.method!r}: leave it out, or choose method={owner!r}"
                )


METHODS = ("ladder", "ranges")

_FIELDS: Mapping[str, frozenset[str]] = {
    "ladder": frozenset(
        {"tunings", "probe_inits", "probe_length", "lr", "batch_size", "schedule", "warmup"}
    ),
    "ranges": frozenset(
        {
            "lr_start",
            "lr_end",
            "lr_sweep_len",
            "lr_min_inits",
            "lr_width_only_gradients",
            "batch_start",
            "batch_end",
            "batch_rn_min_inits",
            "batch_pts",
            "batch_pt_min_inits",
            "rescan_lr_after_bs",
            "warmup_lr",
            "warmup_batch",
            "warmup_pts",
        }
    ),
}
"""What only one method knows."""


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_rate(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )


def _is_length(value: object, *, zero: bool) -> bool:
    return _is_rate(value) or (zero and not isinstance(value, bool) and value == 0)


_Rule: TypeAlias = tuple[str, Callable[[Any], bool]]
_RATE: _Rule = ("a finite number above 0", _is_rate)
_RATE_OR_NONE: _Rule = (
    f"{_RATE[0]}, or None (tuned)",
    lambda value: value is None or _is_rate(value),
)
_SHARE: _Rule = (
    "a number from 0 to below 1",
    lambda value: _is_length(value, zero=True) and value < 1,
)
_COUNT: _Rule = ("a whole number, 1 or more", lambda value: _is_int(value, 1))
_COUNT_OR_NONE: _Rule = ("a whole number, 0 or more", lambda value: _is_int(value, 0))
_FLAG: _Rule = ("True or False", lambda value: isinstance(value, bool))
_LENGTH = "a whole number of samples or a fraction of epochs (a float)"

_RULES: dict[str, _Rule] = {
    "method": ("'ladder' or 'ranges'", lambda value: value in METHODS),
    "tunings": _COUNT,
    "probe_inits": _COUNT,
    "probe_length": _RATE,
    "lr": _RATE_OR_NONE,
    "batch_size": (
        "a whole number, 1 or more, or None (tuned)",
        lambda value: value is None or _is_int(value, 1),
    ),
    "schedule": (
        "'triangular', 'one_cycle', 'cosine' or 'constant'",
        lambda value: value in ("triangular", "one_cycle", "cosine", "constant"),
    ),
    "warmup": _SHARE,
    "lr_start": _RATE,
    "lr_end": _RATE,
    "lr_sweep_len": (f"{_LENGTH}, above 0", lambda value: _is_length(value, zero=False)),
    "lr_min_inits": _COUNT,
    "lr_width_only_gradients": _FLAG,
    "batch_start": _COUNT,
    "batch_end": _COUNT,
    "batch_rn_min_inits": _COUNT,
    "batch_pts": (
        "0 (take the middle) or a whole number from 2 on (one size leaves nothing to compare)",
        lambda value: _is_int(value, 0) and value != 1,
    ),
    "batch_pt_min_inits": _COUNT_OR_NONE,
    "rescan_lr_after_bs": _FLAG,
    "warmup_lr": _RATE,
    "warmup_batch": _COUNT,
    "warmup_pts": (f"{_LENGTH}, or 0 for none", lambda value: _is_length(value, zero=True)),
    "cycle_epochs": (
        "a whole number of epochs, 1 or more, or None (from the size of the data)",
        lambda value: value is None or _is_int(value, 1),
    ),
    "cycles": _COUNT,
    "epochs": (
        "a whole number, 1 or more, or None (cycles times cycle_epochs)",
        lambda value: value is None or _is_int(value, 1),
    ),
}

_SLOW_RANGES = HyperparameterSettings(
    method="ranges",
    lr_start=1e-8,
    lr_sweep_len=12.0,
    lr_min_inits=3,
    batch_rn_min_inits=3,
    batch_pts=12,
    batch_pt_min_inits=3,
    rescan_lr_after_bs=True,
)

PRESETS: Mapping[str, HyperparameterSettings] = {
    "fastest": HyperparameterSettings(tunings=2, probe_length=0.5),
    "fast": HyperparameterSettings(),
    "slow": HyperparameterSettings(tunings=4, probe_inits=3),
    "slowest": HyperparameterSettings(tunings=6, probe_inits=6, probe_length=2.0),
    "ranges-fastest": HyperparameterSettings(
        method="ranges", lr_sweep_len=4.0, batch_pts=0, batch_pt_min_inits=0
    ),
    "ranges-fast": HyperparameterSettings(method="ranges"),
    "ranges-slow": _SLOW_RANGES,
    "ranges-slowest": dataclasses.replace(
        _SLOW_RANGES,
        lr_sweep_len=20.0,
        lr_min_inits=10,
        batch_start=8,
        batch_end=512,
        batch_rn_min_inits=10,
        batch_pts=24,
        batch_pt_min_inits=10,
    ),
}
"""By name; those that begin with `ranges-` are what their names meant before there was a choice."""


def get_settings(hparams: str | HyperparameterSettings) -> HyperparameterSettings:
    """The settings of a preset, or the settings given.

    Raises:
        SettingsError: neither a preset's name nor settings.
    """
    if isinstance(hparams, HyperparameterSettings):
        return hparams
    if isinstance(hparams, str) and hparams in PRESETS:
        return PRESETS[hparams]
    raise SettingsError(
        f"hparams={hparams!r} is not a preset: choose fastest, fast, slow or slowest "
        "(ranges-fastest and so on: as earlier releases tuned), or pass a HyperparameterSettings"
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """When to give something up.  No result depends on them: each run of a sweep may have others.

    Raises:
        SettingsError: a field breaks its rule.
    """

    max_tries: int = 3
    """How often a replica is begun whose worker dies over it, or for which there was no room."""
    stop_after_failures: int | None = None
    """The sweep stops once so many trials, or points in tuning, have failed in this run."""
    trial_timeout: float | None = None
    """Seconds that a training may take; a pack may take as many times as much as it has trials."""

    def __post_init__(self) -> None:
        for name, (rule, holds) in _LIMITS.items():
            value = getattr(self, name)
            if not holds(value):
                raise SettingsError(f"{name}={value!r}: it must be {rule}")


_LIMITS: dict[str, _Rule] = {
    "max_tries": _COUNT,
    "stop_after_failures": (
        f"{_COUNT[0]}, or None for no limit",
        lambda value: value is None or _is_int(value, 1),
    ),
    "trial_timeout": (
        "a finite number of seconds above 0, or None for no limit",
        lambda value: value is None or _is_rate(value),
    ),
}


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """Everything besides problem, data, parameters and seed that a result depends on."""

    hparams: HyperparameterSettings = field(default_factory=HyperparameterSettings)
    cores: int = 4
    """The most cores that one point's tuning occupies at once; with `method="ranges"` also how many
    initialisations a stage averages at least.  Never taken from the machine, since it may change
    results."""
    cores_per_trial: int = 1
    """The width of every job: its cores, and its compute threads."""
    pack: str = "auto"
    """`"auto"`: trials train in packs where that gives the same results; `"off"`: one by one."""

    def __post_init__(self) -> None:
        for name in ("cores", "cores_per_trial"):
            rule, holds = _COUNT
            if not holds(getattr(self, name)):
                raise SettingsError(f"{name}={getattr(self, name)!r}: it must be {rule}")
        if self.pack not in ("auto", "off"):
            raise SettingsError(f"pack={self.pack!r}: it must be 'auto' or 'off'")
