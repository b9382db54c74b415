"""The options of `sweep()`, checked before anything else is done."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from sweeper.errors import SettingsError
from sweeper.records import Params
from sweeper.run.backends import find_backend, names_of
from sweeper.run.machine.devices import Devices
from sweeper.run.machine.topology import Topology
from sweeper.run.widths import Widths
from sweeper.settings import Limits, StopWhen, SweepSettings

SAVE_MODELS = ("final", "none")

MOST_OF_EACH = 100_000
"""More points per curve, or initialisations per stage, are taken for a typing error."""

MOST_IN_PACK = 32
"""In a larger pack a step takes longer in proportion, and fewer packs are left for the cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a sweep is run.

    Raises:
        SettingsError: an option breaks its rule.
    """

    settings: SweepSettings
    tuning_cores: int
    """The most cores that tuning one point occupies at once."""
    seed: int
    folder: str | Path | None
    """None: `out/<problem name>`."""
    resume: bool
    backend: str
    save_models: str
    checkpoint_every: float
    """Seconds between checkpoints of a trial; 0: at each cycle's end."""
    curve_samples: int
    pack: int
    """Maximum number of trials in a pack."""
    slots: tuple[tuple[int, ...], ...]
    topology: Topology
    allow_changed_code: bool
    limits: Limits
    stop_when: StopWhen
    progress: bool | None
    """None: shown on standard error."""
    record_environment: bool | None
    """None: of programs."""
    keep: bool = True
    """False: the sweep runs in a temporary folder, which is removed at its end."""
    widths: Widths | None = None
    """The width of each point; None: that of the settings."""
    devices: Devices | None = None
    """None: trials have none."""
    spare_trials: bool = False
    """Whether idle slots run further trials once all that was asked is running."""
    _by_width: dict[int, SweepSettings] = field(default_factory=dict, init=False, compare=False)

    def __post_init__(self) -> None:
        self._check_keep()
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise SettingsError(f"seed={self.seed!r}: it must be a whole number, 0 or more")
        samples = self.curve_samples
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
            raise SettingsError(f"curve_samples={samples!r}: it must be a whole number, 0 or more")
        every = self.checkpoint_every
        if isinstance(every, bool) or not isinstance(every, int | float) or not every >= 0:
            raise SettingsError(
                f"checkpoint_every={every!r}: it must be a number of seconds, 0 or more"
            )
        backend, timeout = find_backend(self.backend), self.limits.trial_timeout
        cores = self.tuning_cores
        if isinstance(cores, bool) or not isinstance(cores, int) or cores < 1:
            raise SettingsError(f"cores={cores!r}: it must be a whole number, 1 or more")
        if self.devices is not None and not backend.own_processes:
            raise SettingsError(
                f"devices: backend={self.backend!r} runs trials in this process, to which devices "
                f"cannot be dealt out: use {names_of(own_processes=True)}"
            )
        for name, value in (("curve_samples", samples), ("cores", cores)):
            if value > MOST_OF_EACH:
                raise SettingsError(f"{name}={value!r:.40}: it must be at most {MOST_OF_EACH:,}")
        if self.save_models not in SAVE_MODELS:
            choices = " or ".join(repr(choice) for choice in SAVE_MODELS)
            raise SettingsError(f"save_models={self.save_models!r}: choose {choices}")
        if timeout is not None and not backend.stops_jobs:
            raise SettingsError(
                f"trial_timeout={timeout!r}: backend={self.backend!r} cannot stop a training: use "
                f"{names_of(stops_jobs=True)}"
            )

    def _check_keep(self) -> None:
        if not self.keep and self.folder is not None:
            raise SettingsError(
                f"folder={str(self.folder)!r} and keep=False exclude each other: a sweep that "
                "leaves no files has no folder"
            )

    def settings_of(self, params: Params) -> SweepSettings:
        """The settings of a point: as in a sweep of which all points have its width.

        Raises:
            SettingsError: its width breaks its rule (see `Widths.of`).
        """
        if self.widths is None:
            return self.settings
        width = self.widths.of(params)
        if width not in self._by_width:
            # One object for each width: signatures look settings up by identity.
            self._by_width[width] = replace(self.settings, cores_per_trial=width)
        return self._by_width[width]


def check_tuning_inits(inits: object) -> int:
    """The initialisations that a stage of tuning averages at least.

    Raises:
        SettingsError: it is no whole number from 1 to `MOST_OF_EACH`.
    """
    if isinstance(inits, bool) or not isinstance(inits, int) or not 1 <= inits <= MOST_OF_EACH:
        raise SettingsError(
            f"tuning_inits={inits!r:.40}: it must be a whole number from 1 to {MOST_OF_EACH:,}"
        )
    return inits


def read_pack(pack: object) -> int:
    """Maximum number of trials in a pack; 1: packing is off.

    Raises:
        SettingsError: `pack` is none of the choices.
    """
    if pack == "auto":
        return MOST_IN_PACK
    if pack == "off":
        return 1
    if isinstance(pack, bool) or not isinstance(pack, int) or pack < 1:
        raise SettingsError(f"pack={pack!r}: choose 'auto', 'off' or a whole number, 1 or more")
    return min(pack, MOST_IN_PACK)
