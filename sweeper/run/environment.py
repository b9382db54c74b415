"""What a sweep ran in: command line, versions, packages, and the state of the code's repository.

Environment variables are left out: they may hold secrets.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

PATIENCE = 10.0
"""Seconds that one call of git may take, and that the end of a sweep waits for them at most."""

LARGEST = 1 << 24
"""Characters of a text that are kept; a diff may be larger."""


class Environment:
    """The texts by name of file; git is asked beside the sweep, since it may take seconds."""

    def __init__(self, code: Path, versions: Mapping[str, str]) -> None:
        """`code` is the folder of what is swept; `versions` are those that the workload knows."""
        self._texts = {
            "command.txt": f"{shlex.join(sys.orig_argv)}\nin {_here()}\n",
            "versions.json": _versions(versions),
            "packages.txt": "".join(f"{line}\n" for line in packages()),
        }
        conda = list(_conda_packages())
        if conda:
            self._texts["conda.txt"] = "".join(f"{line}\n" for line in conda)
        self._taken = False
        self._thread = threading.Thread(target=self._ask_git, args=(code,), daemon=True)
        self._thread.start()

    def take(self, *, wait: bool = False) -> dict[str, str] | None:
        """The texts, once; None before all is known, and after they were taken.

        With `wait` it waits for git, and takes what is known after `PATIENCE`.
        """
        if wait:
            self._thread.join(PATIENCE)
        if self._taken or (self._thread.is_alive() and not wait):
            return None
        self._taken = True
        return {name: text[:LARGEST] for name, text in dict(self._texts).items()}

    def _ask_git(self, code: Path) -> None:
        commit = _git(code, "rev-parse", "HEAD")
        if commit is None:  # no repository, or nothing committed
            return
        status = _git(code, "status", "--porcelain", "--branch")
        # A repository's own programs for differences are not run.
        diff = _git(code, "diff", "--no-ext-diff", "--no-textconv", "HEAD")
        self._texts |= {"git-commit.txt": commit}
        self._texts |= {"git-status.txt": status} if status is not None else {}
        self._texts |= {"git-diff.patch": diff} if diff else {}


def _here() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "a folder that is gone"


def _versions(known: Mapping[str, str]) -> str:
    found = {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "logical_cpus": os.cpu_count(),
        "python": sys.version,
        **known,
    }
    return json.dumps(found, indent=2) + "\n"


def packages() -> list[str]:
    """The installed packages as `name==version`, by name.

    They are read from the names of their folders: opening each one's metadata would take a tenth of
    a second.
    """
    found: dict[str, str] = {}
    for folder in dict.fromkeys(path for path in sys.path if isinstance(path, str) and path):
        for path in _entries(Path(folder)):
            name, _, version = path.stem.partition("-")
            if path.suffix in (".dist-info", ".egg-info") and version:
                found.setdefault(name, version.partition("-py")[0])  # as an import would
    return [f"{name}=={found[name]}" for name in sorted(found, key=str.lower)]


def _conda_packages() -> Iterator[str]:
    """What conda has installed in this environment, as it names its records."""
    records = (path for path in _entries(Path(sys.prefix, "conda-meta")) if path.suffix == ".json")
    yield from sorted(path.stem for path in records)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # an archive, or not there
        return []


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says of a folder; None: there is no git, or no repository, or it takes too long."""
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            ["git", "-c", "core.fsmonitor=false", *arguments],  # noqa: S607 - as the user's shell
            cwd=folder,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},  # it must not hold up the user's own
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")
