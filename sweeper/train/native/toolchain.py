"""What native steps are made with: the one place of this folder that starts programs.

A compiler is a program, and what it makes shall not depend on what the worker that asks for it has
done before.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sweeper.errors import ChangedCodeError, SweeperError


class NotCompiledError(SweeperError):
    """There is nothing to compile with, or it failed; for people."""


@functools.cache
def toolchain() -> str:
    """What native steps are made with and for, for people: the same text, the same bits.

    Raises:
        NotCompiledError: there is nothing to compile with.
    """
    compiler = os.environ.get("CXX") or "g++"
    path = shutil.which(compiler)
    if path is None or sys.platform != "linux":
        raise NotCompiledError(f"there is no C++ compiler ({compiler})")
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    if shown.returncode:
        raise NotCompiledError(f"the C++ compiler {path} does not work: {shown.stderr.strip()}")
    version = shown.stdout.partition("\n")[0]
    return f"torch {importlib.metadata.version('torch')}, {version}, {processor()}"


def check_toolchain(there: str, *, allow: bool) -> bool:
    """Whether steps can be compiled here as those were that were compiled `there`.

    With `allow` it is False where nothing can be compiled here, and another toolchain will do.

    Raises:
        ChangedCodeError: without `allow`, where they cannot.
    """
    try:
        here = toolchain()
    except NotCompiledError as error:
        here = str(error)
        can = False
    else:
        can = True
    if here != there and not allow:
        raise ChangedCodeError(
            f"trials were trained by steps compiled with {there}; here it would be {here}, and the "
            "last bits would differ: go on where they were begun, use another folder, or "
            "allow_changed_code=True (--allow-changed-code) to mix them"
        )
    return can


def processor() -> str:
    """Its name, and a checksum of what it can do."""
    facts = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            facts[name.strip()] = value.strip()
    abilities = sorted((facts.get("flags") or facts.get("Features") or "").split())
    abilities.append(os.environ.get("ATEN_CPU_CAPABILITY", ""))
    short = hashlib.sha256(" ".join(abilities).encode()).hexdigest()[:8]
    return f"{facts.get('model name', platform.machine())} ({short})"


# A process begun with `-c` looks for modules in the current folder first: its path is set before
# it imports anything.
_BOOTSTRAP = """
import sys; sys.path[:], name = eval(sys.argv[1])
import importlib
importlib.import_module(name).main(sys.argv[2:])
"""


def run_apart(module: str, arguments: Sequence[str], given: bytes) -> None:
    """Run the module's `main(arguments)` in a new Python process with `given` as standard input.

    Raises:
        NotCompiledError: it failed; the message has its last words.
    """
    where = ascii(([entry for entry in sys.path if isinstance(entry, str)], module))
    done = subprocess.run(  # noqa: S603 - this very interpreter
        [sys.executable, "-c", _BOOTSTRAP, where, *arguments],
        input=given,
        capture_output=True,
        check=False,
        env=_environment(),
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else f"it ended with code {done.returncode}"
        raise NotCompiledError(f"it could not be compiled: {reason}")


def _environment() -> dict[str, str]:
    """The user's, less what would change the code that is made."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TORCH", "AOT_", "PYTORCH", "TRITON"))
    }
    fixed = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    return {"MKL_CBWR": "AUTO"} | kept | fixed
