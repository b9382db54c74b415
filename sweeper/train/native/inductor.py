"""Compiles a whole step to one native function: the only module that uses torch's compiler.

It runs in a process of its own, so that the result depends on the step alone and no worker has to
import the compiler.  The function takes stacked tensors and uses one thread.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweeper.disk.arrays import pack_arrays
from sweeper.train.problem.optimizer.recipe import Recipe
from sweeper.train.vectorize.lowering import batched
from sweeper.train.vectorize.optimizers import find_optimizer
from sweeper.train.vectorize.trace import Trace

ENTRY = "inductor_entry_cpp"
"""torch's name for the function, and the module that holds it."""


@dataclass(frozen=True, slots=True)
class CompilePlan:
    """All that determines a native function."""

    trace: Trace
    recipe: Recipe
    parameters: int
    """The number of trained tensors."""
    shapes: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    """Shapes, with replicas, and types of the trace's inputs."""

    @property
    def replicas(self) -> int:
        """The number of replicas that the function computes."""
        return self.shapes[0][0][0]

    @property
    def inputs(self) -> list[tuple[tuple[int, ...], torch.dtype]]:
        """Shapes and types of all inputs: states, then the trace's inputs, then numbers."""
        optimizer = find_optimizer(self.recipe)
        states = optimizer.states_of(self.shapes[: self.parameters])
        numbers = optimizer.numbers_of(1, np.zeros((1, self.replicas))).shape[1:]
        return [*states, *self.shapes, (tuple(numbers), torch.float32)]

    @property
    def written(self) -> bytes:
        """The plan for another process."""
        return pickle.dumps(self)


OPTIONS: Mapping[str, Any] = {
    "cpp_wrapper": True,
    "compile_threads": 1,
    "cpp.threads": 1,
    # Each operation is rounded by itself, in the order written, with the same loops everywhere.
    "cpp.enable_floating_point_contract_flag": "off",
    "cpp.enable_unsafe_math_opt_flag": False,
    "cpp.vec_isa_ok": True,
    "max_autotune": False,
    "max_autotune_gemm": False,
    "freezing": False,
    # Pattern matching would rewrite operations that must stay as they are, and loads for a second.
    "pattern_matcher": False,
    "fx_graph_cache": False,
    "fx_graph_remote_cache": False,
    "aot_inductor.enable_line_tables": False,
}
"""torch's compiler settings.  The test that the processor really has its vector instructions is
skipped, since it takes longer than all the rest."""


SEVERAL = 3
"""Number of steps from which precompiling their common headers pays."""


def whole_step(plan: CompilePlan) -> Any:
    """Forward, backward and update as one function, which changes tensors in place.

    It returns the losses.
    """
    step = batched(plan.trace)
    optimizer = find_optimizer(plan.recipe)
    count = plan.parameters
    states = len(optimizer.states_of(range(count)))
    held = len(plan.trace.results) - 1 - count

    def function(*tensors: Tensor) -> tuple[Tensor]:
        kept, given, numbers = list(tensors[:states]), list(tensors[states:-1]), tensors[-1]
        parameters, buffers = given[:count], given[count : count + held]
        losses, *found = step(given)
        # A result may share the memory of a buffer, which is about to be overwritten: copy it.
        memory = {buffer.untyped_storage().data_ptr() for buffer in buffers}
        found = [
            new.clone() if new is not old and new.untyped_storage().data_ptr() in memory else new
            for old, new in zip(given, found, strict=False)
        ]
        for buffer, new in zip(buffers, found[count:], strict=True):
            if new is not buffer:
                buffer.copy_(new)
        optimizer.update(parameters, kept, found[:count], numbers)
        return (losses,)

    return function


def build(plan: CompilePlan, folder: Path) -> tuple[bytes, list[Tensor]]:
    """The shared library with the function, and the constants that follow its inputs.

    Temporary files are written to `folder`.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    import torch._inductor
    from torch._inductor import codecache, config
    from torch.fx.experimental.proxy_tensor import make_fx

    # Otherwise precompiled headers would be shared by all users of the machine.
    codecache._HEADER_DIR = str(folder / "headers")  # noqa: SLF001
    codecache._HEADER_LOCK_DIR = str(folder / "headers" / "locks")  # noqa: SLF001
    # Integers may be labels or indices, for which zero is always valid.
    inputs = [
        (torch.ones if dtype.is_floating_point else torch.zeros)(shape, dtype=dtype)
        for shape, dtype in plan.inputs
    ]
    before = set(sys.modules)
    with torch.no_grad(), config.patch({**OPTIONS, **_headers(folder)}):
        graph = make_fx(whole_step(plan))(*(one.clone() for one in inputs))
        constants = _lifted(graph)
        torch._inductor.compile(graph, [*inputs, *constants])  # noqa: SLF001
    made = [name for name in set(sys.modules) - before if name.endswith(f".{ENTRY}")]
    path = Path(str(sys.modules[made[0]].__file__))
    source = path.with_suffix(".cpp").read_text()
    if f"_handles(input_handles, {len(inputs) + len(constants)})" not in source:
        raise RuntimeError("the compiled function expects other inputs than it is given")
    library = path.read_bytes()
    for left in path.parent.glob(f"{path.name.split('.')[0]}.main.*"):
        left.unlink()
    return library, constants


def _headers(folder: Path) -> dict[str, Any]:
    """Settings for precompiled headers, which affect time only."""
    return {"cpp_cache_precompile_headers": len(list(folder.parent.glob("*.so"))) >= SEVERAL}


def _lifted(graph: Any) -> list[Tensor]:
    """Turn the tensors that a graph holds into its last inputs; return them."""
    last = [node for node in graph.graph.nodes if node.op == "placeholder"][-1]
    found: dict[str, Any] = {}
    for node in [node for node in graph.graph.nodes if node.op == "get_attr"]:
        if node.target not in found:
            with graph.graph.inserting_after(last):
                last = found[node.target] = graph.graph.placeholder(f"constant_{len(found)}")
        node.replace_all_uses_with(found[node.target])
        graph.graph.erase_node(node)
    for node in graph.graph.nodes:
        node.meta.clear()
    constants = [getattr(graph, name).detach().clone().contiguous() for name in found]
    for name in found:  # any that it still held would become an input, used or not
        delattr(graph, name)
    graph.recompile()
    return constants


def main(arguments: Sequence[str]) -> None:
    """Build the pickled plan on standard input, and write the library to a file."""
    folder, target = map(Path, arguments)
    torch.set_num_threads(1)
    plan: CompilePlan = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by the process that started this one
    library, constants = build(plan, folder)
    arrays = {f"constant_{n:04}": constant.numpy() for n, constant in enumerate(constants)}
    target.write_bytes(sealed(library, pack_arrays(arrays)))


# -- the file -------------------------------------------------------------------------------------

_SEAL = struct.Struct("<Q32s")


def sealed(library: bytes, constants: bytes) -> bytes:
    """A library's file: the library, its constants, and a checksum of both."""
    data = library + constants
    return data + _SEAL.pack(len(constants), hashlib.sha256(data).digest())


def unsealed(data: bytes) -> bytes | None:
    """The constants in a library's file; None if the file is damaged."""
    if len(data) < _SEAL.size:
        return None
    body, end = data[: -_SEAL.size], data[-_SEAL.size :]
    size, checksum = _SEAL.unpack(end)
    whole = hashlib.sha256(body).digest() == checksum
    return body[len(body) - size :] if whole else None
