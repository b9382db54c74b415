"""The identity of a folder: it belongs to one problem, its data, settings and seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeper.errors import FolderError
from sweeper.records import NUMERICS
from sweeper.settings import PRESETS, HyperparameterSettings, SweepSettings
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths

ELSEWHERE = "use another folder, or resume=False (--no-resume) to move it to history/"


OF_EACH_POINT = "of each point"
"""In place of the cores of a trial, where points differ in them."""


def identify(
    own: Mapping[str, Any],
    settings: SweepSettings,
    seed: int,
    curve_samples: int,
    *,
    widths_differ: bool = False,
) -> dict[str, Any]:
    """The identity that all runs of a folder share, as plain data; `own`: the workload's part.

    Where points differ in width, the width of each is part of its signature.
    """
    fields = {**dataclasses.asdict(settings), "hparams": written(settings.hparams)}
    if widths_differ:
        fields["cores_per_trial"] = OF_EACH_POINT
    return {
        **own,
        "seed": seed,
        "curve_samples": curve_samples,
        "settings": {**fields.pop("hparams"), **fields},
    }


def written(hparams: HyperparameterSettings) -> dict[str, Any]:
    """Settings by field, as JSON gives them back."""
    return {**dataclasses.asdict(hparams), "tune": list(hparams.tune)}


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The differences, for people; settings that the folder does not have are not compared."""
    found: list[str] = []
    if "method" in wanted:  # folders were begun without them before there was a choice
        stored = {"method": "ranges", "tune": list(HyperparameterSettings().tune), **stored}
    presets = [_preset(settings) for settings in (stored, wanted)]
    if None not in presets and presets[0] != presets[1]:
        found.append(f"hparams is {presets[0]!r} in the folder and {presets[1]!r} here")
        wanted = {name: now for name, now in wanted.items() if name not in _TUNING}
    for name, now in wanted.items():
        before = stored.get(name, now)
        if isinstance(now, Mapping):
            found += differences(before, now)
        elif before != now or type(before) is not type(now):
            said = wanted.get("workload", name) if name == "problem" else name
            found.append(f"{said} is {before!r} in the folder and {now!r} here")
    return found


_TUNING = {field.name for field in dataclasses.fields(HyperparameterSettings)}


def _preset(settings: Mapping[str, Any]) -> str | None:
    """The preset with these settings, if any."""
    fields = {name: settings[name] for name in _TUNING if name in settings}
    for name, preset in PRESETS.items():
        known = written(preset)
        if fields and {field: known[field] for field in fields} == fields:
            return name
    return None


def settings_begun(store: Store, settings: SweepSettings) -> SweepSettings:
    """The settings with which a folder continues, given the requested `settings`.

    A folder of an earlier release continues as it was begun: without a full-length round, and if it
    is from before there were two methods, with what a preset's name meant then.
    """
    stored = store.meta.get("identity", {}).get("settings", {"method": "", "full_length_inits": 0})
    if "full_length_inits" in stored or not store.has_results():
        return settings
    hparams = settings.hparams
    length: dict[str, Any] = {"cycle_epochs": hparams.cycle_epochs, "cycles": hparams.cycles}
    begun = dataclasses.replace(hparams, full_length_inits=0)
    for name, preset in PRESETS.items() if "method" not in stored else ():
        earlier = PRESETS.get(f"ranges-{name}")
        if earlier is not None and dataclasses.replace(preset, **length) == hparams:
            begun = dataclasses.replace(earlier, **length)
    return dataclasses.replace(settings, hparams=begun)


def settings_note(folder: Path, asked: SweepSettings, begun: SweepSettings) -> str:
    """The note on a folder that continues with settings of an earlier release; or empty."""
    if begun == asked:
        return ""
    changed = "method" if begun.hparams.method != asked.hparams.method else "full_length_inits"
    return (
        f"{folder} was begun with an earlier release: its points are tuned as in that release, by "
        f"{changed}={getattr(begun.hparams, changed)!r}; resume=False (--no-resume) starts anew"
    )


def numerics_of(meta: Mapping[str, Any], folder: Path) -> int:
    """The release of the numerics that a folder was begun with: the sweep continues with it.

    Raises:
        FolderError: a later version of sweeper began it.
    """
    found = meta.get("numerics", 1)  # folders were begun without it before there were two
    if found not in range(1, NUMERICS + 1):
        raise FolderError(
            f"{folder} was begun with numerics {found!r}, and this version of sweeper knows 1 to "
            f"{NUMERICS}: use the version of sweeper that began it, or a later one"
        )
    return int(found)


def numerics_note(meta: Mapping[str, Any]) -> str:
    """The note on a folder that continues with earlier numerics; or empty."""
    if meta.get("numerics", 1) != 1:  # what has changed since 2 concerns no measurement
        return ""
    return (
        "begun by an earlier release, and measured as it was then: losses of sets weigh batches by "
        "their samples, labels that a loss ignores count as wrong, and 'multiclass' compares "
        "logits with 0.5; resume=False (--no-resume) begins anew"
    )


def machine_note(meta: Mapping[str, Any], here: Mapping[str, str]) -> str:
    """The note on a sweep that continues with another processor or other libraries; or empty."""
    there = meta.get("machine", here)
    changed = [name for name in here if there.get(name) != here[name]]
    if not changed:
        return ""
    then, now = (", ".join(f"{name} {one.get(name)}" for name in changed) for one in (there, here))
    return f"begun with {then} and gone on with {now}: last digits of results may differ"


def bind(
    store: Store,
    paths: Paths,
    identity: Mapping[str, Any],
    *,
    data_sha256: Sequence[str],
) -> None:
    """Make the folder this sweep's, or check that it is.  Its code is checked elsewhere.

    `data_sha256` is the data's checksum, then those that earlier releases gave the same data:
    folders with one of these continue with the first.

    A folder without a successful outcome is begun anew by its own sweep; a folder without any
    outcome, by any sweep.

    Raises:
        FolderError: it belongs to another sweep; the message says what differs.
    """
    if begins_anew(store, identity):
        store.forget_everything()
        store.set_meta(
            {
                "identity": dict(identity),
                "data_sha256": data_sha256[0],
                "numerics": NUMERICS,
            }
        )
        return
    check_same(store, paths, identity, data_sha256=data_sha256)
    store.forget_faults_of_the_problem()
    if store.meta.get("data_sha256") != data_sha256[0]:
        store.set_meta({"data_sha256": data_sha256[0]})


def begins_anew(store: Store, identity: Mapping[str, Any]) -> bool:
    """Whether nothing in the folder is kept, since nothing was trained (see `bind`)."""
    found = differences(store.meta.get("identity", identity), identity)
    return not store.has_results() and not (found and store.has_outcomes())


def check_same(
    store: Store, paths: Paths, identity: Mapping[str, Any], *, data_sha256: Sequence[str]
) -> None:
    """Check that a folder with results belongs to this sweep; see `bind`.

    Raises:
        FolderError: it belongs to another sweep; the message says what differs.
    """
    found = differences(store.meta.get("identity", identity), identity)
    if found:
        raise FolderError(f"{paths.folder} holds another sweep: {'; '.join(found)}: {ELSEWHERE}")
    if store.meta.get("data_sha256") not in data_sha256:
        raise FolderError(
            f"{paths.folder} holds results of other data: dataset() does not return what it did "
            f"when the folder was begun: {ELSEWHERE}"
        )
