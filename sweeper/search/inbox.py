"""The inbox of a manual search: points that other processes add to a sweep's folder, as files.

Each is a file of its own in `FOLDER/added/`, numbered in the order of adding and never changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.disk.files import add_numbered, numbered
from sweeper.errors import FolderError, UsageError
from sweeper.records import ADDED, Params
from sweeper.search.checks import check_budget, check_count, check_params
from sweeper.search.selector import Ask
from sweeper.signature import decode, encode, normalise

_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the inbox."""

    number: int
    ask: Ask | None
    """What was added; classes are not imported.  None: it says that no points follow."""


def add(folder: Path, ask: Ask) -> None:
    """Add a point to the sweep in `folder`; durable on return.

    Raises:
        UsageError: the params have no such shape, or the trials, budget or group break their rule.
        ParamError: a value that cannot be stored.
        FolderError: the path to the inbox contains a symbolic link.
        DiskError: it could not be written.
    """
    params = check_params("params", ask.params)
    trials = check_count("trials", ask.trials)
    budget = check_budget(ask.budget)
    if not isinstance(ask.group, str) or not ask.group.isprintable():
        raise UsageError(f"group={ask.group!r}: it must be a text of printable characters")
    if ask.parent is not None:
        raise UsageError("parent: points that are added begin from nothing")
    encoded = encode(_normalised(params), as_given=True)
    _put(folder, {"params": encoded, "trials": trials, "budget": budget, "group": ask.group})


def finish(folder: Path) -> None:
    """Say that no points follow, unless more are added later.

    Raises:
        FolderError: the path to the inbox contains a symbolic link.
        DiskError: it could not be written.
    """
    _put(folder, {"finish": True})


def read(folder: Path, after: int = 0) -> list[Entry]:
    """What was added to the sweep in `folder`, in order; only files with numbers above `after`.

    Raises:
        FolderError: a file is damaged.
    """
    inbox = folder / ADDED
    return [
        _read_entry(inbox / f"{number:06}{_SUFFIX}", number)
        for number in numbered(inbox, _SUFFIX)
        if number > after
    ]


def is_closed(entries: list[Entry]) -> bool:
    """Whether no points follow these entries."""
    return bool(entries) and entries[-1].ask is None


def _normalised(params: Params) -> Params:
    if isinstance(params, Mapping):
        return {name: normalise(value, name) for name, value in params.items()}
    return tuple(normalise(value, f"parameter {place}") for place, value in enumerate(params))


def _put(folder: Path, value: dict[str, Any]) -> None:
    add_numbered(folder.resolve() / ADDED, _SUFFIX, f"{json.dumps(value)}\n".encode())


def _read_entry(path: Path, number: int) -> Entry:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Entry(number, None if told.get("finish") is True else _read_ask(told))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise FolderError(
            f"{path} is not a point that `sweeper add` wrote, or it is damaged: remove it, and add "
            "its point again"
        ) from error


def _read_ask(told: dict[str, Any]) -> Ask:
    params, group = decode(told["params"]), told["group"]
    named = isinstance(params, dict) and all(isinstance(name, str) for name in params)
    if not (named or isinstance(params, tuple)) or not isinstance(group, str):
        raise ValueError(told)
    budget = None if told["budget"] is None else check_count("budget", told["budget"])
    return Ask(params, check_count("trials", told["trials"]), budget, group=group)
