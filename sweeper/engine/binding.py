"""Ties a sweep to its folder: what identifies them, and whether the code is still the same."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeper.engine.options import Options
from sweeper.engine.revision import follow_code
from sweeper.errors import plural
from sweeper.records import Point
from sweeper.run.backends import find_backend, slots_used
from sweeper.search import ParamSelector
from sweeper.search.reading.names import names_of
from sweeper.show.progress import View
from sweeper.signature import make_point
from sweeper.store.database.logs import log_name
from sweeper.store.database.store import Store
from sweeper.store.identity import bind, identify, machine_note, numerics_note, numerics_of
from sweeper.store.paths import Paths
from sweeper.workload import OpenWorkload, Workload


def bind_folder(
    opened: OpenWorkload,
    selector: ParamSelector,
    options: Options,
    store: Store,
    paths: Paths,
    view: View,
) -> None:
    """Check that the folder belongs to this sweep, and note what continues it."""
    identity = identity_of(opened.identity, options)
    bind(store, paths, identity, data_sha256=opened.data_sha256)
    numerics = numerics_of(store.meta, paths.folder)
    here = dict(opened.versions(numerics))
    # Fingerprints are taken by matrix products, whose kernels a process chooses at its first one.
    with as_worker(opened, options, numerics):
        mixed = _follow_code(opened, selector, options, store, paths, view)
    about, *others = opened.notes
    notes = [about, *(note for note in store.meta.get("notes", ()) if note != about), *others]
    if mixed:
        kind = opened.identity.get("workload", "problem")
        notes.append(f"the {kind}'s code changed during this sweep, and that was allowed")
    notes += filter(None, [machine_note(store.meta, here), numerics_note(store.meta)])
    machine = store.meta.get("machine", here)
    store.set_meta(
        {
            "notes": list(dict.fromkeys(notes)),
            "machine": machine,
            "stopped": "",
            **opened.facts,
        }
    )
    store.add_event(
        time.time(),
        "opened",
        {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "python": platform.python_version(),
            "slots": options.slots[: slots_used(options.backend, len(options.slots))],
            **here,
        },
    )


def _follow_code(
    opened: OpenWorkload,
    selector: ParamSelector,
    options: Options,
    store: Store,
    paths: Paths,
    view: View,
) -> bool:
    """Find which points the code still trains; returns whether results are of several codes."""

    def take(points: Sequence[tuple[str, str]]) -> Sequence[str | None]:
        view.note(f"the problem's code has changed: checking {plural(len(points), 'point')}")
        return opened.take_fingerprints(points)

    name = log_name(store, names_of(selector))
    found = follow_code(
        opened,
        store,
        paths,
        take,
        replayed=name if selector.adaptive else None,
        allow=options.allow_changed_code,
    )
    if found.files:
        value = {"sha256": opened.code.own_sha256, "files": found.files}
        store.add_event(time.time(), "code_changed", value)
        if not selector.adaptive:
            store.forget_failures()
    return found.mixed


def identity_of(own: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """What all runs of the sweep's folder share; `own`: the workload's part."""
    return identify(
        own,
        options.settings,
        options.seed,
        options.curve_samples,
        widths_differ=options.widths is not None,
    )


def folder_of(workload: Workload, options: Options) -> Path:
    """The sweep's folder: the given one, or `out/<problem name>`."""
    return Path("out", workload.name) if options.folder is None else Path(options.folder)


def point_of(workload: Workload, opened: OpenWorkload, options: Options, params: Any) -> Point:
    """The point of a selector's params.

    Raises:
        ParamError: they cannot be stored, or do not fit.
        SettingsError: the point's width breaks its rule.
    """
    point = make_point(params, workload.name, options.settings, options.seed, workload.module)
    settings = options.settings_of(point.params)
    if settings is not options.settings:
        point = make_point(params, workload.name, settings, options.seed, workload.module)
    opened.check_params(point.params, settings)
    return point


def as_worker(
    opened: OpenWorkload, options: Options, numerics: int
) -> contextlib.AbstractContextManager[None]:
    """Context in which this process is a worker, if the backend has no processes of its own."""
    apart = find_backend(options.backend).own_processes
    return contextlib.nullcontext() if apart else opened.in_this_process(numerics)
