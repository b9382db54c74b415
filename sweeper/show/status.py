"""The status of a sweep as text, from its folder, whether it runs or not."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sweeper.errors import plural
from sweeper.records import Status
from sweeper.results import SweepResult
from sweeper.settings import PRESETS, SweepSettings
from sweeper.show.clean import clean_line
from sweeper.show.progress import UNFINISHED, show_duration
from sweeper.show.table import failure_lines, name_point
from sweeper.summary import show_interval


def describe_status(
    status: Status, results: SweepResult, now: float, checkpoints: tuple[int, int] = (0, 0)
) -> str:
    """The status and the results so far, as lines of a name and a value.

    `now` is in seconds since the epoch; `checkpoints` are their number and their bytes.
    """
    identity = status.identity
    rows = [
        *_workload(identity),
        ("seed", str(identity.get("seed", "-"))),
        ("folder", status.folder),
        ("driven by", status.driver or "no process at the moment"),
        ("points", _points(status.phases, driven=status.driver is not None)),
        ("trials", _trials(status)),
        ("began", _when(status.began, now)),
        ("last result", _when(status.last, now)),
        ("best so far", _best(results)),
        *([("checkpoints", _checkpoints(*checkpoints))] if checkpoints[0] else []),
        *(("flagged", text) for text in _flagged(results)),
        *(("note", note) for note in results.notes),
    ]
    lines = [f"{name:<12} {clean_line(text)}".rstrip() for name, text in rows]
    return "\n".join(lines + failure_lines(results, status.folder))


def _workload(identity: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is swept, and how it is tuned; a program is not."""
    name, settings = str(identity.get("problem", "not known yet")), identity.get("settings", {})
    if identity.get("workload") == "program":
        cores = settings.get("cores_per_trial", 1)
        return [("program", name), *([("cores", f"{cores} per trial")] if cores != 1 else [])]
    return [("problem", name), ("settings", describe_settings(settings))]


def describe_settings(settings: Mapping[str, Any]) -> str:
    """The nearest preset, and the settings that differ from it: `fastest, cycles=1, cores=2`."""
    if not settings:
        return "not known yet"
    settings = {"method": "ranges", **settings}  # folders from before there were two methods
    if "tune" in settings:
        settings["tune"] = tuple(settings["tune"])  # JSON has lists
    usual = dataclasses.asdict(SweepSettings())
    del usual["hparams"]
    differences: dict[str, dict[str, Any]] = {}
    for name, preset in PRESETS.items():
        expected = {**dataclasses.asdict(preset), **usual}
        differences[name] = {
            field: value
            for field, value in settings.items()
            # Compare types, too: a length of 6 counts samples, one of 6.0 epochs.
            if field not in expected or repr(value) != repr(expected[field])
        }
    nearest = min(differences, key=lambda name: len(differences[name]))
    changed = [f"{field}={value!r}" for field, value in differences[nearest].items()]
    return ", ".join([nearest, *changed])


def _flagged(results: SweepResult) -> list[str]:
    """The points whose tuning cannot be trusted, and why."""
    return [
        f"{name_point(point.params)}: {flag}"
        for point, flag in zip(results, results.flags, strict=True)
        if flag
    ]


def _points(phases: Mapping[str, int], *, driven: bool) -> str:
    # "running" is what a program's trials do, too.
    said = {"training": "running"} if driven else dict.fromkeys(("tuning", "training"), UNFINISHED)
    named: Counter[str] = Counter()
    for phase, count in phases.items():
        named[said.get(phase, phase)] += count
    counted = ", ".join(f"{count:,} {phase}" for phase, count in named.items() if count)
    total = named.total()
    return f"{total:,}: {counted}" if total else "none asked for yet"


def _trials(status: Status) -> str:
    text = f"{status.trials_done:,} of {status.trials_asked:,} done"
    return f"{text}, {status.trials_failed:,} of them failed" if status.trials_failed else text


def _checkpoints(count: int, size: int) -> str:
    return f"{plural(count, 'file')}, {size / 2**20:,.1f} MiB"


def _when(moment: float | None, now: float) -> str:
    if moment is None:
        return "-"
    written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
    return f"{written} ({show_duration(max(0.0, now - moment))} ago)"


def _best(results: SweepResult) -> str:
    comparable = results.comparable()
    if results.judged is None or not any(map(len, comparable.trial_numbers)):
        return "-"
    best = comparable.best()
    place = next(place for place, point in enumerate(comparable) if point is best)
    interval = comparable.intervals()[place]
    return f"{name_point(best.params)}  {show_interval(interval)} ({plural(interval.n, 'trial')})"
