"""The commands for a sweep that runs elsewhere: attach, stop, list."""

from __future__ import annotations

import functools
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from sweeper.api.folder import SweepFolder
from sweeper.api.folder import open as open_folder
from sweeper.cli.common import FAILED, Command, Folder, say
from sweeper.disk.locking import read_lock
from sweeper.errors import FolderError, SweeperError
from sweeper.records import FolderProgress
from sweeper.run.processes.stopping import wait_for_end
from sweeper.show.clean import clean
from sweeper.show.folders import folders_table
from sweeper.show.progress import View, describe, make_view
from sweeper.store.paths import Paths

# -- attach ---------------------------------------------------------------------------------------


def attach(folder: Folder) -> Command:
    """Show the table of a sweep that runs elsewhere; Ctrl-C leaves it, and the sweep goes on.

    \b
    Example:
      sweeper run examples.digits --detach
      sweeper attach out/digits
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    return functools.partial(_attach, folder)


def _attach(folder: Path) -> int:
    found = open_folder(folder)
    progress = found.progress()
    if progress.state != "running":
        raise FolderError(
            f"no sweep runs in {folder}; it is {progress.state}: {describe(progress)}"
        )
    try:
        with make_view(None) as view:
            _follow(found, view)
    except KeyboardInterrupt:
        say(clean(f"left; the sweep goes on. {how_to_steer(folder)}"), sys.stderr)
        return 0
    say(clean(f"{folder}: {_ended(found.progress())}"))
    return 0


def _follow(found: SweepFolder, view: View) -> None:
    """Show the sweep until no process drives it."""
    lock = Paths(found.folder).lock
    while (holder := read_lock(lock)) is not None:
        began = time.monotonic()
        view.update(found.progress())
        # A folder of a million trials takes seconds to read, and the sweep needs its cores.
        if wait_for_end(lock, holder, max(1.0, 10 * (time.monotonic() - began))):
            break
    view.update(found.progress())


def _ended(progress: FolderProgress) -> str:
    """How a sweep ended that was followed."""
    if progress.state == "finished":
        return "the sweep is finished"
    return "the sweep has stopped; finished work is kept, and the same command resumes it"


def how_to_steer(folder: Path) -> str:
    """The commands for a sweep that runs in this folder."""
    where = shlex.quote(str(folder))
    return f"See it again: sweeper attach {where}; end it: sweeper stop {where}"


# -- stop -----------------------------------------------------------------------------------------


def stop(
    folder: Folder,
    *,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long to wait for its end.")
    ] = 60.0,
) -> Command:
    """Have a sweep that runs elsewhere stop, as Ctrl-C does; finished work is kept.

    \b
    Example:
      sweeper stop out/digits
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    return functools.partial(_stop, folder, timeout)


def _stop(folder: Path, timeout: float) -> int:
    found = open_folder(folder)
    ran = found.stop(timeout)
    if not ran and not found.has_run:
        raise FolderError(f"{folder} holds no sweep, so there is none to stop")
    said = "stopped" if ran else f"no sweep runs in {folder}"
    if found.has_run:
        progress = found.progress()
        said += f"; it is {progress.state}: {describe(progress)}"
    say(clean(said))
    return 0


# -- list -----------------------------------------------------------------------------------------


def list_sweeps(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where to look [default: here].")
    ] = Path(),
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON, an object for each sweep.")
    ] = False,
) -> Command:
    """Show all sweeps in and below a folder, and what each is doing.

    \b
    Examples:
      sweeper list
      sweeper list out --json
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    return functools.partial(_list, folder, as_json=as_json)


def _list(folder: Path, *, as_json: bool) -> int:
    if not folder.is_dir():
        raise FolderError(f"{folder} is no folder: give the folder below which to look")
    read = [(found, _read(found)) for found in sorted(_find_sweeps(folder))]
    if as_json:
        say(json.dumps([_as_json(*one) for one in read], indent=2))
    elif not read:
        say(clean(f"no sweeps in {folder} or below it"))
    else:
        for line in folders_table(read, time.time()):
            say(line)
    return FAILED if any(isinstance(found, str) for _, found in read) else 0


def _find_sweeps(folder: Path) -> Iterator[Path]:
    """The folders of sweeps; those inside a sweep's folder are its history."""
    for path, folders, files in os.walk(folder):
        if "sweep.db" in files:
            yield Path(path)
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith(".")]


def _read(folder: Path) -> FolderProgress | str:
    """A sweep's progress, or why it cannot be read."""
    try:
        return open_folder(folder).progress()
    except (SweeperError, OSError) as error:
        return str(error)


def _as_json(folder: Path, found: FolderProgress | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {"folder": str(folder), "state": "unreadable", "error": found}
    return {
        "folder": str(folder),
        "state": found.state,
        "workload": found.workload,
        "points": found.points,
        "points_failed": found.failed,
        "trials_done": found.trials_done,
        "trials_asked": found.trials_asked,
        "trials_failed": found.trials_failed,
        "running": [does for _, does, _ in found.running],
        "trials_per_hour": found.trials_per_hour,
        "seconds_left": found.seconds_left if found.state == "running" else None,
        "last": found.last,
        "driver": found.driver,
    }
