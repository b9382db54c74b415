"""The options of `sweep()`, checked before anything else is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import SettingsError
from sweeper.run.backends import find_backend, names_of
from sweeper.run.topology import Topology
from sweeper.settings import Limits, SweepSettings

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
    seed: int
    folder: str | Path | None
    """None: `out/<problem name>`."""
    resume: bool
    backend: str
    save_models: str
    curve_samples: int
    pack: int
    """Maximum number of trials in a pack."""
    slots: tuple[tuple[int, ...], ...]
    topology: Topology
    allow_changed_code: bool
    limits: Limits
    progress: bool | None
    """None: shown on standard error."""

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise SettingsError(f"seed={self.seed!r}: it must be a whole number, 0 or more")
        samples = self.curve_samples
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
            raise SettingsError(f"curve_samples={samples!r}: it must be a whole number, 0 or more")
        for name, value in (("curve_samples", samples), ("cores", self.settings.cores)):
            if value > MOST_OF_EACH:
                raise SettingsError(f"{name}={value!r:.40}: it must be at most {MOST_OF_EACH:,}")
        if self.save_models not in SAVE_MODELS:
            choices = " or ".join(repr(choice) for choice in SAVE_MODELS)
            raise SettingsError(f"save_models={self.save_models!r}: choose {choices}")
        backend, timeout = find_backend(self.backend), self.limits.trial_timeout
        if timeout is not None and not backend.stops_jobs:
            raise SettingsError(
                f"trial_timeout={timeout!r}: backend={self.backend!r} cannot stop a training: use "
                f"{names_of(stops_jobs=True)}"
            )


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
