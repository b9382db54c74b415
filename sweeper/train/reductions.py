"""How the loss of a whole set follows from its batches.

A set is evaluated batch by batch.  torch's own losses are weighted means, so that their value on
the whole set follows exactly from each batch's value and the weight that it was divided by.  Any
other loss is computed once, from the outputs and targets of the whole set, where these fit into
memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from sweeper.train.draws import Mode

MOST_WHOLE = 1 << 26
"""Bytes of a replica's outputs up to which a loss that cannot be cut is computed of a whole set."""

Weigh: TypeAlias = Callable[[Any, Any], list[float]]
"""From the outputs and targets of a batch, stacked for some replicas, shape (replicas, batch, …):
what the batch's loss was divided by, for each replica."""


def find_weigh(loss: Any) -> Weigh | None:
    """How batches of this loss weigh; None: it is no weighted mean that is known.

    A subclass may compute something else, so only torch's own classes are known.
    """
    weigh = _WEIGHTS.get(type(loss))
    if weigh is None or loss.reduction not in ("mean", "batchmean"):
        return None
    if loss.reduction == "batchmean":
        return _samples
    return weigh(loss)


def _samples(_output: Any, y: Tensor) -> list[float]:
    return [float(y.shape[1])] * len(y)


def _numbers(_output: Any, y: Tensor) -> list[float]:
    return [float(math.prod(y.shape[1:]))] * len(y)


def _classes(loss: nn.CrossEntropyLoss | nn.NLLLoss) -> Weigh:
    """As torch documents `CrossEntropyLoss`: by the weights of the labels that count."""

    def weigh(output: Tensor, y: Tensor) -> list[float]:
        if y.is_floating_point():  # probabilities of classes: divided by how many rows there are
            return [math.prod(y.shape[1:]) / output.shape[2]] * len(y)
        counts = (y != loss.ignore_index).flatten(1)
        if loss.weight is None:
            found = counts.sum(1, dtype=torch.float64)
        else:
            labels = y.flatten(1) * counts
            found = (loss.weight.double()[labels] * counts).sum(1)
        return found.tolist()

    return weigh


_WEIGHTS: Mapping[type, Callable[[Any], Weigh]] = {
    nn.CrossEntropyLoss: _classes,
    nn.NLLLoss: _classes,
    **dict.fromkeys(
        (
            nn.MSELoss,
            nn.L1Loss,
            nn.SmoothL1Loss,
            nn.HuberLoss,
            nn.PoissonNLLLoss,
            nn.BCELoss,
            nn.BCEWithLogitsLoss,
            nn.SoftMarginLoss,
            nn.HingeEmbeddingLoss,
            nn.KLDivLoss,
        ),
        lambda _: _numbers,
    ),
    **dict.fromkeys(
        (nn.MultiMarginLoss, nn.MultiLabelMarginLoss, nn.MultiLabelSoftMarginLoss),
        lambda _: _samples,
    ),
}
"""By class of loss: what its mean over a batch is divided by."""

ELEMENTWISE = (
    *(nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.PoissonNLLLoss, nn.KLDivLoss),
    *(nn.BCELoss, nn.BCEWithLogitsLoss, nn.SoftMarginLoss, nn.HingeEmbeddingLoss),
)
"""Losses that compare each output with the target at its place."""


def count_samples(y: Any) -> int:
    """How many samples a batch of targets has: one of several tensors has as many as each."""
    if isinstance(y, Mapping | list | tuple) and len(y):
        parts = list(y.values() if isinstance(y, Mapping) else y)
        if isinstance(parts[0], Tensor | Mapping | list | tuple):
            return count_samples(parts[0])
    return len(y)


# -- what a loss makes of outputs and labels ------------------------------------------------------

TORCH_IGNORES = -100
"""The label that torch's losses of classes leave out by default; never a class."""


class _Seen(Mode):  # type: ignore[no-untyped-call]
    """Sees which of torch's operations a loss is computed by."""

    def __init__(self) -> None:
        super().__init__()
        self.ignored: int | None = None
        self.logits = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        name = func._schema.name  # noqa: SLF001
        if name in ("aten::nll_loss_forward", "aten::nll_loss2d_forward"):
            self.ignored = int(args[4])
        self.logits |= name == "aten::binary_cross_entropy_with_logits"
        return func(*args, **(kwargs or {}))


def judged_by(loss: Any, output: Any, y: Any) -> tuple[int, float]:
    """The label that does not count, and the output above which a label is predicted.

    A loss that takes logits predicts a label where its probability is above 0.5: above 0.  It is
    found by what the loss computes, so that functions and losses within losses are known too.
    """
    parts = list(loss.modules()) if isinstance(loss, nn.Module) else []
    seen = _Seen()
    with torch.no_grad(), seen:
        loss(output, y)
    logits = seen.logits or any(isinstance(part, nn.MultiLabelSoftMarginLoss) for part in parts)
    ignored = [part.ignore_index for part in parts if isinstance(part, nn.CrossEntropyLoss)]
    if seen.ignored is not None:
        ignored = [seen.ignored]
    return ignored[0] if ignored else TORCH_IGNORES, 0.0 if logits else 0.5


# -- the outputs of a whole set -------------------------------------------------------------------


def size_of(value: Any) -> int:
    """Bytes of the tensors in a value."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(size_of, value.values()))
    return sum(map(size_of, value)) if isinstance(value, list | tuple) else 0


def fits(output: Any, y: Any, samples: int) -> bool:
    """Whether the outputs of so many samples may be held, to judge by those of a batch."""
    each = size_of(output) / max(1, count_samples(y))
    return can_join(output) and can_join(y) and each * samples <= MOST_WHOLE


def can_join(value: Any) -> bool:
    """Whether batches of such a value can be put together."""
    if isinstance(value, Tensor):
        return value.ndim > 0
    if isinstance(value, Mapping):
        return type(value) is dict and all(map(can_join, value.values()))
    if isinstance(value, list) and value and all(isinstance(one, str | bytes) for one in value):
        return True
    return isinstance(value, list | tuple) and bool(value) and all(map(can_join, value))


def join(values: Sequence[Any]) -> Any:
    """Batches put together: tensors by their first dimension, texts one after the other."""
    first = values[0]
    if len(values) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if isinstance(first, Mapping):
        return {key: join([value[key] for value in values]) for key in first}
    if isinstance(first[0], str | bytes):
        return [one for value in values for one in value]
    parts = [join(column) for column in zip(*values, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)


def rebuild(like: Any, tensors: Iterator[Tensor]) -> Any:
    """The tensors in the structure of another value: its tuples, lists and dictionaries."""
    if isinstance(like, Tensor):
        return next(tensors)
    if isinstance(like, Mapping):
        return {key: rebuild(value, tensors) for key, value in like.items()}
    parts = [rebuild(value, tensors) for value in like]
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)


def finite_or_nan(value: float) -> float:
    """A loss as it is stored: NaN where it is not finite."""
    return value if math.isfinite(value) else math.nan
