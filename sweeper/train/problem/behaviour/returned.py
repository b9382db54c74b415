"""Detects weights that `model()` returns more than once in a process.

A frozen backbone that is made once and shared by all models is fine.  Trained weights are not: each
trial would go on from another's weights, and results would depend on which trials ran in the same
process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


@dataclass(slots=True)
class _Seen:
    """A returned tensor, known by its memory: a new `Parameter` may share an old one's memory."""

    memory: _Memory
    trained: bool
    state: object
    """Changes when the tensor is written to."""
    is_shared: bool = False
    """Whether it was returned more than once."""


class _Memory:
    """A weak reference to the memory of a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self._reference = tensor.untyped_storage()._weak_ref()  # noqa: SLF001

    @property
    def is_gone(self) -> bool:
        """Whether it was freed: until then no other tensor has its address."""
        return bool(torch.UntypedStorage._expired(self._reference))  # noqa: SLF001

    def __del__(self) -> None:
        torch.UntypedStorage._free_weak_ref(self._reference)  # type: ignore[no-untyped-call]  # noqa: SLF001


_seen: dict[int, _Seen] = {}
"""By address."""

_FEW = 4096


@dataclass(frozen=True, slots=True)
class Again:
    """Names of a model's tensors that were wrongly returned before."""

    trained: list[str]
    changed: list[str]
    """Not trained, but changed since the last time."""


def note(models: Iterable[nn.Module]) -> Again:
    """Remember what one call of `model()` returned, and compare it with earlier calls."""
    found, new = Again([], []), dict[int, _Seen]()
    for name, tensor, is_trained in _tensors(models):
        address = tensor.data_ptr()
        before = _seen.get(address)
        if before is None or before.memory.is_gone:
            if address not in new or is_trained:  # tied weights, or the second of a pair
                new[address] = _Seen(_Memory(tensor), is_trained, _state(tensor))
        else:
            before.is_shared = True
            if is_trained or before.trained:
                found.trained.append(name)
            elif before.state != _state(tensor):
                found.changed.append(name)
    _seen.update(new)
    if len(_seen) > _FEW:
        for address in [address for address, one in _seen.items() if one.memory.is_gone]:
            del _seen[address]
    return found


def is_shared(model: nn.Module) -> bool:
    """Whether a model shares tensors with another one that `model()` returned."""
    seen = [_seen.get(tensor.data_ptr()) for _, tensor, _ in _tensors([model])]
    return any(one is not None and one.is_shared for one in seen)


def _tensors(models: Iterable[nn.Module]) -> Iterator[tuple[str, Tensor, bool]]:
    """Name, tensor, and whether it is trained; tensors that two models share come once."""
    named: dict[int, tuple[str, Tensor, bool]] = {}
    for model in models:
        for name, parameter in model.named_parameters():
            named.setdefault(id(parameter), (name, parameter, parameter.requires_grad))
        for name, buffer in model.named_buffers():
            named.setdefault(id(buffer), (name, buffer, False))
    for name, tensor, is_trained in named.values():
        if not is_lazy(tensor) and tensor.numel() and tensor.device.type == "cpu":
            yield name, tensor, is_trained


def _state(tensor: Tensor) -> object:
    """The version counter of a parameter; batch normalisation changes buffers without it."""
    if isinstance(tensor, nn.Parameter) or tensor.layout is not torch.strided:
        return tensor._version  # noqa: SLF001
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return hashlib.blake2b(data, digest_size=16).digest()
