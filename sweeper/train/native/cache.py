"""Native steps: making, caching, loading and calling them.

A native step is a shared library in the user's cache folder, made once for all sweeps and workers.
It computes the whole step of a fixed number of replicas.  Smaller packs are padded, so a replica's
bits do not depend on the pack size.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sweeper.disk.arrays import unpack_arrays
from sweeper.disk.files import write_swapped
from sweeper.disk.locking import exclusive
from sweeper.errors import SweeperError
from sweeper.train.native.folder import user_cache
from sweeper.train.native.inductor import ENTRY, OPTIONS, CompilePlan, unsealed
from sweeper.train.native.toolchain import NotCompiledError, run_apart, toolchain
from sweeper.train.vectorize.trace import Trace

FEW_PRODUCTS = 1_000_000
"""Multiplications in matrix products up to which several replicas share a call.  Up to here the
call costs as much as a replica's arithmetic; beyond, a replica is faster alone in the processor's
caches."""

SHARING = 8
"""Replicas that share a call.  With more, the time per replica hardly falls (2-128-4 at batch 32:
37, 20, 21, 17, 19 µs each for 1, 4, 8, 16, 32; 64-32-10: 30, 10, 8, 8, 7; the Python code of a
call takes some 40 µs more)."""


def replicas_of(trace: Trace) -> int:
    """The number of replicas that the native step of this trace computes."""
    return SHARING if trace.products <= FEW_PRODUCTS else 1


# -- which one ------------------------------------------------------------------------------------


@functools.cache
def _code() -> str:
    """A checksum of the code that turns a trace into a step."""
    folder = Path(__file__).parents[1]
    files = sorted([*folder.glob("vectorize/**/*.py"), *folder.glob("native/*.py")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def key_of(plan: CompilePlan) -> str:
    """A key, equal for the same step made with the same tools.

    Raises:
        NotCompiledError: there is nothing to compile with.
    """
    python = importlib.machinery.EXTENSION_SUFFIXES[0]
    parts = (plan.trace, plan.shapes, plan.parameters, plan.recipe)
    text = repr((parts, toolchain(), python, _code(), sorted(OPTIONS.items())))
    return hashlib.sha256(text.encode()).hexdigest()


# -- where they are kept --------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where native steps are kept, without links."""
    return (user_cache() / "compiled").resolve()


def _safe_folder() -> Path:
    """The cache folder, created if missing.

    Raises:
        NotCompiledError: another user could write to it, and its contents are executed.
    """
    try:
        folder = cache_folder()
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        raise NotCompiledError(f"native steps cannot be kept: {error}") from None
    if not _is_own(folder):
        raise NotCompiledError(
            f"{folder} is not this user's alone, and its contents would be executed: set "
            "SWEEPER_CACHE to another folder"
        )
    return folder


def _is_own(path: Path) -> bool:
    """Whether only this user can write to it."""
    found = path.lstat()
    return found.st_uid == os.getuid() and not (path.is_dir() and found.st_mode & 0o022)


def _read(path: Path) -> list[Tensor] | None:
    """A native step's constants; None unless its file exists, is intact and this user's own."""
    try:
        constants = unsealed(path.read_bytes()) if _is_own(path) else None
    except FileNotFoundError:
        return None
    if constants is None:
        return None
    return [torch.from_numpy(array) for array in unpack_arrays(constants).values()]


# -- making and calling ---------------------------------------------------------------------------


class Native:
    """A native step, which changes its tensors in place."""

    def __init__(
        self, path: Path, plan: CompilePlan, kept: Sequence[Tensor], constants: list[Tensor]
    ) -> None:
        """Load it from a library; `kept` are the tensors that each call changes."""
        self._kept, self._constants = list(kept), constants
        self._changing = plan.inputs[len(kept) :]
        for tensor, expected in zip(kept, plan.inputs, strict=False):
            _check_input(tensor, expected)
        self._entry = _entry(path)

    def __call__(self, *given: Tensor) -> Tensor:
        """Run the step on the rest of `plan.inputs`; return the losses.

        Raises:
            RuntimeError: the inputs are invalid, such as a label that is no class.
            ValueError: the tensors do not have the shapes or types that it was made for.
        """
        for tensor, expected in zip(given, self._changing, strict=True):
            _check_input(tensor, expected)
        tensors = [*self._kept, *given, *self._constants]
        handles = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(tensors)  # noqa: SLF001
        found = torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs(self._entry(handles))  # noqa: SLF001
        losses: Tensor = found[0]
        return losses


def _check_input(tensor: Tensor, expected: tuple[tuple[int, ...], torch.dtype]) -> None:
    # Native code does not check: it would read memory of any other kind as if it were right.
    shape, dtype = expected
    if tensor.shape != shape or tensor.dtype is not dtype or not tensor.is_contiguous():
        raise ValueError(
            f"a native step was made for {dtype} of shape {shape}, but is given "
            f"{tensor.dtype} of shape {tuple(tensor.shape)}"
        )


def native(plan: CompilePlan, kept: Sequence[Tensor]) -> Native:
    """The native step of a plan for these tensors: from the cache, or compiled into it now.

    Raises:
        NotCompiledError: it cannot be compiled here.
    """
    path = _safe_folder() / f"{key_of(plan)}.so"
    constants = _read(path)
    if constants is None:
        with exclusive(path.with_suffix(".lock")):
            if _read(path) is None:  # else another process has made it meanwhile
                _make(plan, path)
        constants = _read(path)
    if constants is None:
        raise NotCompiledError(f"{path} cannot be read")
    return Native(path, plan, kept, constants)


def _make(plan: CompilePlan, path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="making.", dir=path.parent) as made:
        library = Path(made) / "library.so"
        run_apart(
            "sweeper.train.native.inductor",
            [str(path.parent / "inductor"), str(library)],
            plan.written,
        )
        write_swapped(path, library.read_bytes())


@functools.cache
def _entry(path: Path) -> Callable[[list[Any]], list[Any]]:
    # The library needs this symbol when it is loaded, but does not use it here.
    pointer = torch._C._dynamo.guards._torchinductor_pyobject_tensor_data_ptr  # type: ignore[attr-defined]  # noqa: SLF001
    spec = importlib.util.spec_from_file_location(ENTRY, path)
    if spec is None or spec.loader is None:
        raise SweeperError(f"{path} cannot be loaded as a library")
    with _set("_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR", str(pointer)):
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    entry: Callable[[list[Any]], list[Any]] = getattr(module, ENTRY)
    return entry


@contextlib.contextmanager
def _set(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
