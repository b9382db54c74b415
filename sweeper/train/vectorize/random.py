"""Random numbers in packs: functions of the replica's key, the step, the operation and the place.

torch's generators draw one number after the other, so a replica's numbers would depend on its
neighbours.  Here each number is hashed by itself: a fixed random word of its place is mixed with
the replica's key of this step, by multiplication with a random odd number (Dietzfelbinger et al.
1997, A reliable randomized algorithm for the closest-pair problem, sec. 2).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def step_keys(keys: Sequence[int], first: int, count: int) -> Tensor:
    """The keys of `count` steps, shape (count, replicas): SplitMix64 without its last bit."""
    steps = np.arange(first + 1, first + 1 + count, dtype=np.uint64)[:, None]
    found = _mixed(np.array(keys, dtype=np.uint64) + steps * np.uint64(0x9E3779B97F4A7C15))
    return torch.from_numpy((found >> np.uint64(1)).astype(np.int64))


def _mixed(x: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@functools.lru_cache(maxsize=64)
def _places(number: int, count: int) -> Tensor:
    """A random word for each place of a random operation's result, shape (count,)."""
    numbers = np.arange(1, count + 1, dtype=np.uint64) + (np.uint64(number) << np.uint64(40))
    found = _mixed(numbers * np.uint64(0x9E3779B97F4A7C15))
    return torch.from_numpy((found >> np.uint64(32)).astype(np.uint32).view(np.int32))


def _words(keys: Tensor, number: int, size: Sequence[int]) -> Tensor:
    """Random 32-bit numbers, shape (replicas, *size); higher bits of products are cut off."""
    low = (keys & 0xFFFF_FFFF) - 2**31
    x = _places(number, math.prod(size)) ^ low.to(torch.int32).unsqueeze(1)
    x *= (keys >> 32 | 1).to(torch.int32).unsqueeze(1)
    return x.view(len(keys), *size)


def bernoulli(keys: Tensor, number: int, like: Tensor, p: float = 0.5, **_: object) -> Tensor:
    """Ones with probability p, else zeros; `like` is of shape (replicas, …)."""
    if not 0 < p < 1:
        return torch.full_like(like, p)
    below = round(p * 2**32) - 2**31
    return torch.lt(_words(keys, number, like.shape[1:]), below, out=torch.empty_like(like))


def uniform(keys: Tensor, number: int, like: Tensor, **_: object) -> Tensor:
    """Numbers in [0, 1), at steps that every precision can represent."""
    words = _words(keys, number, like.shape[1:]) >> 8
    return (words + 2**23).to(like.dtype) * 2.0**-24


def chances(keys: Tensor, number: int, like: Tensor, **_: object) -> Tensor:
    """Ones with the probability given at their place, else zeros."""
    return (uniform(keys, number, like) < like).to(like.dtype)


def between(
    keys: Tensor, number: int, like: Tensor, low: float = 0.0, high: float = 1.0, **_: object
) -> Tensor:
    """Numbers in [low, high)."""
    found = uniform(keys, number, like) * (high - low)
    return found + low


def _inner(keys: Tensor, number: int, size: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Numbers in (-1, 1), at steps that every precision can represent."""
    words = _words(keys, number, size) >> 8
    return (words.to(dtype) + 0.5) * 2.0**-23


def _whole(operation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An approximated function in whole vectors, as in `rules.common` (not importable here)."""
    rest = -x.numel() % 64
    flat = torch.nn.functional.pad(x.reshape(-1), (0, rest))
    return operation(flat)[: x.numel()].view(x.shape)


def normal(
    keys: Tensor, number: int, like: Tensor, mean: float = 0.0, deviation: float = 1.0, **_: object
) -> Tensor:
    """Normally distributed numbers, by the inverse distribution function."""
    dtype = like.dtype
    found = _whole(torch.erfinv, _inner(keys, number, like.shape[1:], dtype)) * math.sqrt(2)
    return found * deviation + mean if (mean, deviation) != (0.0, 1.0) else found


def exponential(keys: Tensor, number: int, like: Tensor, rate: float = 1.0, **_: object) -> Tensor:
    """Exponentially distributed numbers above zero."""
    found: Tensor = _whole(torch.log, _inner(keys, number, like.shape[1:], like.dtype) * 0.5 + 0.5)
    return -found / rate


def _sized(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A random operation that is given a size, not a tensor to resemble."""

    def sized(
        keys: Tensor, number: int, *given: Any, dtype: torch.dtype | None = None, **_: object
    ) -> Tensor:
        *settings, size = given
        like = torch.empty((), dtype=dtype).expand(len(keys), *size)
        return operation(keys, number, like, *settings)

    return sized


def _integers(
    keys: Tensor, number: int, *given: Any, dtype: torch.dtype | None = None, **_: object
) -> Tensor:
    """Integers in [low, high); low is 0 by default."""
    *bounds, size = given
    low, high = (0, *bounds)[-2:]
    words = _words(keys, number, size).to(torch.int64) + 2**31
    found: Tensor = (words * (high - low) >> 32) + low
    return found.to(dtype or torch.int64)


def _order(keys: Tensor, number: int, count: int, **_: object) -> Tensor:
    """The integers below count in random order."""
    return _words(keys, number, (count,)).argsort(1)


def _around(keys: Tensor, number: int, mean: Any, deviation: Any = 1.0, **_: object) -> Tensor:
    """Normally distributed numbers with given means, standard deviations or both."""
    given = [x for x in (mean, deviation) if isinstance(x, Tensor)]
    rank = max(x.ndim for x in given)
    shaped = [x.reshape(len(x), *[1] * (rank - x.ndim), *x.shape[1:]) for x in given]
    like = torch.zeros_like(shaped[0]) + torch.zeros_like(shaped[-1])
    found: Tensor = normal(keys, number, like)
    found = found * (shaped[-1] if isinstance(deviation, Tensor) else deviation)
    return found + (shaped[0] if isinstance(mean, Tensor) else mean)


RANDOM_RULES: Mapping[str, Callable[..., Tensor]] = {
    "aten.bernoulli_.float": bernoulli,
    "aten.bernoulli.default": chances,
    "aten.rand_like.default": uniform,
    "aten.rand.default": _sized(uniform),
    "aten.uniform_.default": between,
    "aten.randn_like.default": normal,
    "aten.randn.default": _sized(normal),
    "aten.normal_.default": normal,
    "aten.normal.float_float": _sized(normal),
    "aten.normal.Tensor_float": _around,
    "aten.normal.float_Tensor": _around,
    "aten.normal.Tensor_Tensor": _around,
    "aten.exponential_.default": exponential,
    "aten.randint.default": _integers,
    "aten.randint.low": _integers,
    "aten.randperm.default": _order,
}
"""By random operation: its replacement for stacked replicas."""


_QUIET = "aten::_scaled_dot_product_flash_attention_for_cpu"
"""torch tags it as random for an option that it rejects."""


@functools.lru_cache(maxsize=1_000)  # it is asked of each operation of each replica
def is_random(operation: Any) -> bool:
    """Whether torch declares that this operation draws random numbers."""
    tagged = torch.Tag.nondeterministic_seeded in operation.tags
    return tagged and operation._schema.name != _QUIET  # noqa: SLF001


class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode that sees torch's operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else the first operation imports torch's compiler, which takes as long as torch itself.
        return False


class RandomNumbers(Mode):  # type: ignore[no-untyped-call]
    """Eager training with the random numbers that a pack would use, for a key of shape (1,).

    Random operations of the step are told apart by the state of torch's generator, which moves as
    usual: an operation repeated from a saved state, as by `torch.utils.checkpoint`, gets the same
    numbers.  Afterwards the generator's state is restored.
    """

    def __init__(self, key: Tensor) -> None:
        super().__init__()
        self._key = key
        self._numbers: dict[bytes, int] = {}
        self._operations: list[str] = []
        self.last = -1
        """Number of the last random operation."""
        self.reason = ""
        """Why random operations cannot be told apart; empty if they can."""

    @property
    def count(self) -> int:
        """Number of different random operations."""
        return len(self._operations)

    def __enter__(self) -> Self:
        self._before = torch.default_generator.get_state()
        self._newest = _state()
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        if _state() != self._newest:
            # The next step would draw the same numbers again, or those of a state that was set.
            self._refuse("it leaves torch's random generator in another state than drawing does")
        torch.default_generator.set_state(self._before)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        if not is_random(func):
            return func(*args, **kwargs)
        self.last = self._number(_described(func, args, kwargs))
        rule = RANDOM_RULES.get(str(func))
        found = func(*args, **kwargs)  # called to advance the generator
        if self.last == len(self._operations) - 1:
            self._newest = _state()
        if rule is None:
            return found
        stacked = [x.unsqueeze(0) if isinstance(x, Tensor) else x for x in args]
        own: Tensor = rule(self._key, self.last, *stacked, **kwargs)[0]
        return args[0].copy_(own) if func._schema.name.endswith("_") else own  # noqa: SLF001

    def _number(self, operation: str) -> int:
        """The number of this random operation, by the generator's state before it."""
        state = _state()
        known = self._numbers.get(state)
        if known is None or state == self._newest:
            if state != self._newest:
                self._refuse("it sets the state of torch's random generator")
            known = self._numbers[state] = len(self._operations)
            self._operations.append(operation)
        elif self._operations[known] != operation:
            self._refuse("it draws different numbers from one state of torch's random generator")
        return known

    def _refuse(self, reason: str) -> None:
        self.reason = self.reason or reason


def _state() -> bytes:
    """The state of torch's generator."""
    with torch._C.DisableTorchFunction():  # noqa: SLF001 - a recording sees who reads values
        return torch.default_generator.get_state().numpy().tobytes()


def _described(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Describes an operation: equal if the same generator state gives the same numbers."""
    given = [tuple(x.shape) if isinstance(x, Tensor) else x for x in args]
    return repr((str(func), given, sorted(kwargs.items())))
