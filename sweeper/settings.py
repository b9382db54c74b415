"""Settings, their rules, and the presets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sweeper.errors import SettingsError, suggestion

Length: TypeAlias = int | float
"""The length of a probe's training: an int counts samples, a float epochs."""

TUNABLE = ("lr", "batch_size", "weight_decay", "momentum")
"""What may be tuned; the last two are options of the optimizer."""

OPTIONS = TUNABLE[2:]

TUNING_CORES = 4
"""The most cores of one point's tuning, unless `cores` says another number.  It is part of a
folder's identity, so it does not depend on the machine."""


@dataclass(frozen=True, slots=True)
class HyperparameterSettings:
    """How much effort goes into tuning each point, and how long a trial is.

    `get_settings` makes the presets.  The defaults here are those of `fast` and never change: a
    field at its default is left out of signatures, so that adding a field keeps existing folders
    valid.

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
    """Ladder: initialisations of each candidate in all rounds but the first."""
    full_length_inits: int = 0
    """Ladder: initialisations of each candidate in a further round of probes as long as a trial,
    which tries the rate that was found, an eighth of it, and four and eight times it; 0: no such
    round.  There is none either if `lr` is given."""
    probe_length: float = 1.0
    """Ladder: a factor on how long probes train."""
    tune: tuple[str, ...] = ("lr", "batch_size")
    """Ladder: what is tuned, names out of `TUNABLE`.  `lr` and `batch_size` must be given if they
    are not in it, here or by each point; one that is given is not tuned."""
    lr: float | None = None
    """The peak learning rate of every trial; None: tuned."""
    batch_size: int | None = None
    """The batch size of every trial; None: tuned."""
    schedule: str = "triangular"
    """Learning-rate schedule of trials and probes: `"triangular"`, `"one_cycle"`, `"cosine"` or
    `"constant"` (see `sweeper.train.tuning.schedule`)."""
    warmup: float = 0.0
    """The fraction of a training's steps, at its start, in which the rate rises linearly."""

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
    """Epochs of a whole trial; None: `cycles` times `cycle_epochs`."""

    def __post_init__(self) -> None:
        for name, (rule, holds) in _RULES.items():
            value = getattr(self, name)
            if not holds(value):
                raise SettingsError(f"{name}={value!r}: it must be {rule}")
            if (rule, holds) in (_RATE, _RATE_OR_NONE, _SHARE) and value is not None:
                object.__setattr__(self, name, float(value))
        object.__setattr__(self, "tune", tuple(name for name in TUNABLE if name in self.tune))
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

    @property
    def options(self) -> tuple[str, ...]:
        """The options of the optimizer that are tuned."""
        return tuple(name for name in OPTIONS if name in self.tune)

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
        {
            "tunings",
            "probe_inits",
            "full_length_inits",
            "probe_length",
            "tune",
            "lr",
            "batch_size",
            "schedule",
            "warmup",
        }
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
"""Fields that belong to one method only."""


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
_COUNT_OR_ZERO: _Rule = ("a whole number, 0 or more", lambda value: _is_int(value, 0))
_FLAG: _Rule = ("True or False", lambda value: isinstance(value, bool))
_LENGTH = "a whole number of samples or a fraction of epochs (a float)"

_RULES: dict[str, _Rule] = {
    "method": ("'ladder' or 'ranges'", lambda value: value in METHODS),
    "tunings": _COUNT,
    "probe_inits": _COUNT,
    "full_length_inits": _COUNT_OR_ZERO,
    "probe_length": _RATE,
    "tune": (
        f"a tuple of names out of {', '.join(map(repr, TUNABLE))}",
        lambda value: isinstance(value, tuple | list) and all(name in TUNABLE for name in value),
    ),
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
    "batch_pt_min_inits": _COUNT_OR_ZERO,
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
    "slow": HyperparameterSettings(tunings=4, probe_inits=3, full_length_inits=3),
    "slowest": HyperparameterSettings(
        tunings=6, probe_inits=6, full_length_inits=6, probe_length=2.0
    ),
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
"""By name; `ranges-fast` and so on are what `fast` and so on meant in earlier releases."""


def get_settings(hparams: str | HyperparameterSettings | None) -> HyperparameterSettings:
    """The settings of a preset, or the settings given; None: those of `"fast"`.

    Raises:
        SettingsError: neither a preset's name nor settings.
    """
    if hparams is None:
        return PRESETS["fast"]
    if isinstance(hparams, HyperparameterSettings):
        return hparams
    if isinstance(hparams, str) and hparams in PRESETS:
        return PRESETS[hparams]
    near = suggestion(hparams, PRESETS) if isinstance(hparams, str) else ""
    raise SettingsError(
        f"hparams={hparams!r} is not a preset{near}: choose fastest, fast, slow or slowest "
        "(ranges-fastest and so on: as earlier releases tuned), or pass a HyperparameterSettings"
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """When to give up.  No result depends on these limits: they may differ from run to run.

    Raises:
        SettingsError: a field breaks its rule.
    """

    max_tries: int = 3
    """Attempts at a replica whose worker dies, or for which memory or disk is full."""
    stop_after_failures: int | None = None
    """The sweep stops once this many trials, or points in tuning, have failed in this run."""
    trial_timeout: float | None = None
    """Maximum seconds of a training; a pack of n trials may take n times as long."""

    def __post_init__(self) -> None:
        for name, (rule, holds) in _LIMITS.items():
            value = getattr(self, name)
            if not holds(value):
                raise SettingsError(f"{name}={value!r}: it must be {rule}")


@dataclass(frozen=True, slots=True)
class StopWhen:
    """When a sweep has enough: whichever comes first.  What runs then is finished.

    No result depends on it: it may differ from run to run, and a run with more goes on.

    Raises:
        SettingsError: a field breaks its rule.
    """

    hours: float | None = None
    """Hours of this run."""
    trials: int | None = None
    """Trials that have ended, of those asked for, in this run and earlier ones."""
    points: int | None = None
    """Points whose trials have all ended, in this run and earlier ones."""
    no_better: int | None = None
    """Points in a row whose mean validation performance is not above the best one before."""

    def __post_init__(self) -> None:
        for known in dataclasses.fields(self):
            value = getattr(self, known.name)
            rule, holds = _RATE if known.name == "hours" else _COUNT
            if value is not None and not holds(value):
                raise SettingsError(f"stop_when: {known.name}={value!r}: it must be {rule}")

    @classmethod
    def read(cls, given: StopWhen | Mapping[str, Any] | None) -> StopWhen:
        """The record of a mapping such as `{"hours": 2}`; None: no limit.

        Raises:
            SettingsError: it is neither, or a name or value breaks its rule.
        """
        if isinstance(given, StopWhen):
            return given
        known = [field.name for field in dataclasses.fields(cls)]
        if given is not None and not isinstance(given, Mapping):
            raise SettingsError(
                f"stop_when={given!r} is a {type(given).__name__}: give a mapping such as "
                f"{{'hours': 2}}; the names are {', '.join(known)}"
            )
        for name in given or ():
            if name not in known:
                near = suggestion(str(name), known)
                raise SettingsError(
                    f"stop_when: there is no {name!r}{near}: choose from {', '.join(known)}"
                )
        return cls(**(given or {}))


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
    """Everything that a result depends on besides problem, data, parameters and seed."""

    hparams: HyperparameterSettings = field(default_factory=HyperparameterSettings)
    cores: int = 4
    """Maximum number of cores that one point's tuning uses at once; with `method="ranges"` also the
    minimum number of initialisations that a stage averages.  Its default never depends on the
    machine, since it may change results."""
    cores_per_trial: int = 1
    """The width of every job: its cores and compute threads."""
    pack: str = "auto"
    """`"auto"`: trials train in packs if that gives the same results; `"off"`: one by one."""

    def __post_init__(self) -> None:
        for name in ("cores", "cores_per_trial"):
            rule, holds = _COUNT
            if not holds(getattr(self, name)):
                raise SettingsError(f"{name}={getattr(self, name)!r}: it must be {rule}")
        if self.pack not in ("auto", "off"):
            raise SettingsError(f"pack={self.pack!r}: it must be 'auto' or 'off'")
