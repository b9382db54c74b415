"""What results depend on beside the code: processor, torch's libraries, their matrix products.

Packs need matrix products to be bit-identical wherever their operands lie in memory.  MKL does not
promise that on every processor, so it is tried once per machine and build of torch.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from sweeper.errors import ChangedCodeError
from sweeper.train.native.folder import user_cache
from sweeper.train.native.toolchain import processor

PLACE_MATTERS = (
    "the bits of a matrix product depend on where its operands lie in memory, so results would "
    "depend on the pack (MKL_CBWR=AUTO, set before a process's first matrix product, may help)"
)

SHAPES = 100
LARGEST = 40
"""Thin matrix products are tried: so many shapes, no dimension larger than this."""

PACKS = ((2, 1), (3, 2), (8, 5))
"""Pack size, and the place in it that is compared with the first place in a pack of two."""

Product = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From stacked addends, first and second factors, as `torch.baddbmm`."""


def check_products(*, allow: bool) -> None:
    """Check that packed trials can be resumed on this machine; `allow` skips the check.

    Raises:
        ChangedCodeError: bits of matrix products depend on the place in the pack here.
    """
    if products_depend_on_place() and not allow:
        raise ChangedCodeError(
            f"trials of this point train in packs, but on this machine {PLACE_MATTERS}: go on "
            "where they were begun, use another folder, or pass allow_changed_code=True "
            "(--allow-changed-code) to mix them"
        )


_others: list[bool] = []
"""Not empty in a process that is not a worker."""


@contextlib.contextmanager
def not_a_worker() -> Iterator[None]:
    """Inside, the answer is found by trying, and holds for this process alone.

    Such a process may have multiplied matrices before a worker's environment variables were set.
    """
    products_depend_on_place.cache_clear()
    _others.append(True)
    try:
        yield
    finally:
        _others.pop()
        products_depend_on_place.cache_clear()


@functools.cache
def products_depend_on_place() -> bool:
    """Whether bits of matrix products depend on the place here; kept in the user's cache folder."""
    if _others:
        return depends_on_place()
    facts = (torch.__version__, libraries(), processor(), os.environ.get("MKL_CBWR", ""))
    key = hashlib.sha256(repr((facts, SHAPES, LARGEST, PACKS)).encode()).hexdigest()
    try:
        path = user_cache() / "machine" / f"{key}.json"
    except RuntimeError:  # no home folder
        return depends_on_place()
    return _kept(path)


def _kept(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        if found in (True, False):
            return bool(found)
    found = depends_on_place()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several workers may write it at the same time.
        aside = path.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(found))
        aside.replace(path)
    return found


def depends_on_place(product: Product = torch.baddbmm) -> bool:
    """Whether bits of thin matrix products depend on the place in the pack."""
    return any(_differs(product, *operands) for operands in _operands())


def _operands() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Addends and factors of one replica: thin, of many shapes, each in both memory layouts."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, LARGEST, (SHAPES, 3), generator=generator).tolist()
    for rows, inner, columns in sizes:
        added = torch.randn(rows, columns, generator=generator)
        first = torch.randn(rows, inner, generator=generator)
        second = torch.randn(inner, columns, generator=generator)
        for one in (first, first.T.contiguous().T):
            for other in (second, second.T.contiguous().T):
                yield added, one, other


def _differs(product: Product, *operands: Tensor) -> bool:
    found = set()
    for replicas, place in ((2, 0), *PACKS):
        stacked = [_stack(operand, replicas) for operand in operands]
        found.add(product(*stacked)[place].numpy().tobytes())
    return len(found) > 1


def _stack(x: Tensor, replicas: int) -> Tensor:
    """Copies of x for all replicas, each in x's memory layout."""
    if x.is_contiguous():
        return torch.stack([x] * replicas)
    return torch.stack([x.T] * replicas).mT


def libraries() -> str:
    """The versions of MKL and oneDNN in this build of torch, for display."""
    shown = torch.__config__.show()
    patterns = (
        ("MKL", r"Math Kernel Library Version ([\w.]+(?: Update \d+)?)"),
        ("oneDNN", r"(?:MKL-DNN|oneDNN) v([\w.]+)"),
    )
    found = [(name, re.search(pattern, shown)) for name, pattern in patterns]
    return ", ".join(f"{name} {match[1]}" for name, match in found if match)
