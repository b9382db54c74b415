"""Whose a folder is: a folder belongs to one problem, its data, settings and seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sweeper.errors import ChangedCodeError, FolderError
from sweeper.store.database import Store
from sweeper.store.paths import Paths
from sweeper.store.sources import SourceFile, as_meta, changed_files, kept_sources
from sweeper.types import PRESETS, HyperparameterSettings, SweepSettings


def identify(
    problem: str, settings: SweepSettings, seed: int, curve_samples: int
) -> dict[str, Any]:
    """What two runs of one folder have in common, in plain data."""
    fields = dataclasses.asdict(settings)
    return {
        "problem": problem,
        "seed": seed,
        "curve_samples": curve_samples,
        "settings": {**fields.pop("hparams"), **fields},
    }


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs, for people; settings that the folder does not know are not compared."""
    found: list[str] = []
    presets = [_preset(settings) for settings in (stored, wanted)]
    if None not in presets and presets[0] != presets[1]:
        found.append(f"hparams is {presets[0]!r} there and {presets[1]!r} here")
        wanted = {name: now for name, now in wanted.items() if name not in _TUNING}
    for name, now in wanted.items():
        before = stored.get(name, now)
        if isinstance(now, Mapping):
            found += differences(before, now)
        elif before != now or type(before) is not type(now):
            found.append(f"{name} is {before!r} there and {now!r} here")
    return found


_TUNING = {field.name for field in dataclasses.fields(HyperparameterSettings)}


def _preset(settings: Mapping[str, Any]) -> str | None:
    """The preset that these settings are, if they are one."""
    fields = {name: settings[name] for name in _TUNING if name in settings}
    for name, preset in PRESETS.items():
        if dataclasses.asdict(preset) == fields:
            return name
    return None


def bind(
    store: Store,
    paths: Paths,
    identity: Mapping[str, Any],
    *,
    source_sha256: str,
    sources: Sequence[SourceFile],
    data_sha256: str,
    earlier_data_sha256: str = "",
    allow_changed_code: bool,
) -> bool:
    """Make the folder this sweep's, or see that it is; True where changed code was allowed.

    A folder in which nothing has ended well is begun anew by the sweep that it belongs to; one in
    which nothing has ended at all, by any.

    Raises:
        FolderError: it is another sweep's; the message says what differs.
    """
    wanted = {
        "identity": dict(identity),
        "source_sha256": source_sha256,
        "sources": as_meta(sources),
        "data_sha256": data_sha256,
    }
    stored = store.meta
    found = differences(stored.get("identity", identity), identity)
    if not store.has_results() and not (found and store.has_outcomes()):
        store.forget_everything()
        store.set_meta(wanted)
        return False
    elsewhere = "use another folder, or resume=False (--no-resume) to move it to history/"
    if found:
        raise FolderError(f"{paths.folder} holds another sweep: {'; '.join(found)}: {elsewhere}")
    known_data = stored.get("data_sha256")
    # Earlier releases looked at tensors alone; a folder of theirs goes on with the whole checksum.
    if known_data not in {data_sha256, earlier_data_sha256 or data_sha256}:
        raise FolderError(
            f"{paths.folder} holds results of other data: dataset() gives something else than when "
            f"it was begun: {elsewhere}"
        )
    changed = _changed_files(store, source_sha256, sources)
    if changed and not allow_changed_code:
        raise ChangedCodeError(
            f"{paths.folder} holds results of other code: {_changes(changed)} since it was begun: "
            f"{elsewhere}, or allow_changed_code=True (--allow-changed-code) to mix them"
        )
    store.forget_faults_of_the_problem()
    if known_data != data_sha256:
        store.set_meta({"data_sha256": data_sha256})
    if changed or stored.get("sources") is None:
        store.set_meta({"source_sha256": source_sha256, "sources": as_meta(sources)})
    return bool(changed)


def _changed_files(
    store: Store, source_sha256: str, sources: Sequence[SourceFile]
) -> tuple[str, ...]:
    """The files of the problem that are not as the folder knows them."""
    known = kept_sources(store)
    if known is not None:
        return changed_files(known, sources)
    if store.meta.get("source_sha256") == source_sha256:
        return ()
    # A folder of an earlier release, which knows the problem's own file alone.
    return tuple(file.label for file in sources if file.sha256 == source_sha256)


def _changes(labels: Sequence[str]) -> str:
    """Which files changed, as the beginning of a sentence."""
    shown = [f"{label!r}" for label in labels[:5]]
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    return f"{', '.join(shown)}{more} {'has' if len(labels) == 1 else 'have'} changed"
