"""The compilers of native steps: the only module of this folder that starts programs.

The result of a compilation must not depend on what the worker has done before.
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
    """There is no compiler, or it failed; shown to users."""


@functools.cache
def toolchain() -> str:
    """The compilers and processor of native steps, as text; equal texts mean equal bits.

    Raises:
        NotCompiledError: there is no compiler.
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
    """Whether steps can be compiled here with the same tools as `there`.

    With `allow`, another toolchain will do, and the result is False if there is none.

    Raises:
        ChangedCodeError: the toolchain differs, without `allow`.
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
            "last bits would differ: go on where they were begun, use another folder, or pass "
            "allow_changed_code=True (--allow-changed-code) to mix them"
        )
    return can


def processor() -> str:
    """The processor's name, and a checksum of its features."""
    facts = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            facts[name.strip()] = value.strip()
    abilities = sorted((facts.get("flags") or facts.get("Features") or "").split())
    abilities.append(os.environ.get("ATEN_CPU_CAPABILITY", ""))
    short = hashlib.sha256(" ".join(abilities).encode()).hexdigest()[:8]
    return f"{facts.get('model name', platform.machine())} ({short})"


# A process started with `-c` searches the current folder first, so the path is set before any
# import.
_BOOTSTRAP = """
import sys; sys.path[:], name = eval(sys.argv[1])
import importlib
importlib.import_module(name).main(sys.argv[2:])
"""


def run_apart(module: str, arguments: Sequence[str], given: bytes) -> None:
    """Run the module's `main(arguments)` in a new Python process with `given` as standard input.

    Raises:
        NotCompiledError: it failed; the message has its last line of output.
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
    """The user's environment without variables that would change the compiled code."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TORCH", "AOT_", "PYTORCH", "TRITON"))
    }
    fixed = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    return {"MKL_CBWR": "AUTO"} | kept | fixed
