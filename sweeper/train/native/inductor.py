"""Makes one native function of a whole step: the only place that knows torch's compiler.

It runs in a process of its own, so that what it makes depends on the step alone, and no worker has
to import the compiler.  The function takes stacked tensors and has one thread.
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

from sweeper.files import pack_arrays
from sweeper.train.problem.recipe import Recipe
from sweeper.train.vectorize.lowering import batched
from sweeper.train.vectorize.optimizers import find_optimizer
from sweeper.train.vectorize.trace import Trace

ENTRY = "inductor_entry_cpp"
"""What torch calls the function, and the module that holds it."""


@dataclass(frozen=True, slots=True)
class CompilePlan:
    """What a native function is made of."""

    trace: Trace
    recipe: Recipe
    parameters: int
    """How many of the tensors are trained."""
    shapes: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    """Of the step's inputs as the tape has them, each with its replicas."""

    @property
    def replicas(self) -> int:
        """How many the function computes."""
        return self.shapes[0][0][0]

    @property
    def inputs(self) -> list[tuple[tuple[int, ...], torch.dtype]]:
        """Of all that the function is given: states, then the tape's inputs, then numbers."""
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
    # Each operation rounded by itself, as it stands, and the same loops wherever it is compiled.
    "cpp.enable_floating_point_contract_flag": "off",
    "cpp.enable_unsafe_math_opt_flag": False,
    "cpp.vec_isa_ok": True,
    "max_autotune": False,
    "max_autotune_gemm": False,
    "freezing": False,
    # Patterns would be found in what is written as it shall be, and take a second to load.
    "pattern_matcher": False,
    "fx_graph_cache": False,
    "fx_graph_remote_cache": False,
    "aot_inductor.enable_line_tables": False,
}
"""torch's settings for it.  Whether the processor has the vectors that it says it has is not tried
out, since that takes longer than all the rest."""


SEVERAL = 3
"""Steps after which it pays to compile the headers that all of them need beforehand."""


def whole_step(plan: CompilePlan) -> Any:
    """Forward, backward and update as one function of tensors, which it changes in place.

    It gives the losses.
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
        # What a buffer hands on, to another or to a gradient, must outlast its being written over.
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
    """The shared library with the function, and the constants that it is given after its inputs.

    What else compiling leaves is kept in `folder`.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    import torch._inductor
    from torch._inductor import codecache, config
    from torch.fx.experimental.proxy_tensor import make_fx

    # Headers compiled beforehand would be shared by all users of the machine, else.
    codecache._HEADER_DIR = str(folder / "headers")  # noqa: SLF001
    codecache._HEADER_LOCK_DIR = str(folder / "headers" / "locks")  # noqa: SLF001
    # Whole numbers may be labels or places, and zero is one of any.
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
        raise RuntimeError("it takes something else than it is given")
    library = path.read_bytes()
    for left in path.parent.glob(f"{path.name.split('.')[0]}.main.*"):
        left.unlink()
    return library, constants


def _headers(folder: Path) -> dict[str, Any]:
    """Whether headers are compiled beforehand, which changes nothing but the time."""
    return {"cpp_cache_precompile_headers": len(list(folder.parent.glob("*.so"))) >= SEVERAL}


def _lifted(graph: Any) -> list[Tensor]:
    """The tensors that a graph holds, made its last inputs."""
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
    for name in found:  # what it still held would be an input, used or not
        delattr(graph, name)
    graph.recompile()
    return constants


def main(arguments: Sequence[str]) -> None:
    """Build the plan that standard input holds, pickled, and write the library to a file."""
    folder, target = map(Path, arguments)
    torch.set_num_threads(1)
    plan: CompilePlan = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by the process that started this one
    library, constants = build(plan, folder)
    arrays = {f"constant_{n:04}": constant.numpy() for n, constant in enumerate(constants)}
    target.write_bytes(sealed(library, pack_arrays(arrays)))


# -- the file -------------------------------------------------------------------------------------

_SEAL = struct.Struct("<Q32s")


def sealed(library: bytes, constants: bytes) -> bytes:
    """A library as it is kept: its constants behind it, and a checksum of all."""
    data = library + constants
    return data + _SEAL.pack(len(constants), hashlib.sha256(data).digest())


def unsealed(data: bytes) -> bytes | None:
    """The constants in a library's file; nothing if the file is not whole."""
    if len(data) < _SEAL.size:
        return None
    body, end = data[: -_SEAL.size], data[-_SEAL.size :]
    size, checksum = _SEAL.unpack(end)
    whole = hashlib.sha256(body).digest() == checksum
    return body[len(body) - size :] if whole else None
