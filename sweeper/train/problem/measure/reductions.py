"""How the loss of a whole set follows from its batches.

A set is evaluated batch by batch.  torch's own losses are weighted means, so their value on the
whole set follows exactly from each batch's value and the weight that it was divided by.  Any other
loss is computed once, from the outputs and targets of the whole set, if these fit into memory.
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from sweeper.train.vectorize.random import Mode

MOST_WHOLE = 1 << 26
"""Largest size in bytes of a replica's outputs that are kept to compute a loss on a whole set."""

Weigh: TypeAlias = Callable[[Any, Any], list[float]]
"""From a batch's outputs and targets, stacked, shape (replicas, batch, …): what each replica's loss
was divided by."""


def find_weigh(loss: Any) -> Weigh | None:
    """How batches of this loss are weighted; None: it is no known weighted mean.

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
        if y.is_floating_point():  # class probabilities: divided by the number of rows
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
"""By loss class: what its mean over a batch is divided by."""

ELEMENTWISE = (
    *(nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.PoissonNLLLoss, nn.KLDivLoss),
    *(nn.BCELoss, nn.BCEWithLogitsLoss, nn.SoftMarginLoss, nn.HingeEmbeddingLoss),
)
"""Losses that compare each output with the target at the same place."""


def count_samples(y: Any) -> int:
    """The number of samples in a batch of targets, which may be several tensors."""
    if isinstance(y, Mapping | list | tuple) and len(y):
        parts = list(y.values() if isinstance(y, Mapping) else y)
        if isinstance(parts[0], Tensor | Mapping | list | tuple):
            return count_samples(parts[0])
    return len(y)


# -- how a loss treats outputs and labels ---------------------------------------------------------

TORCH_IGNORES = -100
"""The label that torch's classification losses ignore by default; never a class."""


class _Seen(Mode):  # type: ignore[no-untyped-call]
    """Records by which of torch's operations a loss is computed."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self._output = output.detach().reshape(-1)
        self.ignored: int | None = None
        self.logits = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        name = func._schema.name  # noqa: SLF001
        if name in ("aten::nll_loss_forward", "aten::nll_loss2d_forward"):
            self.ignored = int(args[4])
        self.logits |= name == "aten::binary_cross_entropy_with_logits"
        self.logits |= name in _OF_LOGITS and self._is_output(args[0])
        return func(*args, **(kwargs or {}))

    def _is_output(self, x: Tensor) -> bool:
        if x.numel() != self._output.numel():
            return False
        return bool((x.reshape(-1).abs() == self._output.abs()).all())  # of either sign


_OF_LOGITS = frozenset(
    f"aten::{name}" for name in ("sigmoid", "log_sigmoid_forward", "softplus", "soft_margin_loss")
)
"""Operations by which a loss turns outputs, or outputs and signs, into probabilities."""


@contextlib.contextmanager
def _asked(loss: Any) -> Iterator[None]:
    """Inside, the loss is in evaluation mode, so that it does not change; then in its old mode."""
    if not isinstance(loss, nn.Module):
        yield
        return
    was = loss.training
    loss.eval()
    try:
        yield
    finally:
        loss.train(was)


def judged_by(loss: Any, output: Tensor, y: Any) -> tuple[int, float]:
    """The label that is ignored, and the output above which a label is predicted.

    A loss that takes logits predicts a label if its logit is above 0 (probability above 0.5).  This
    is read off the operations of the loss, so that functions and nested losses are recognised, too.
    """
    parts = list(loss.modules()) if isinstance(loss, nn.Module) else []
    seen = _Seen(output)
    with _asked(loss), torch.no_grad(), seen:
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
    """Whether outputs of `samples` samples may be held, judged by one batch's size."""
    rows = count_samples(y)
    each = size_of(output) / max(1, rows)
    return can_join(output, rows) and can_join(y, rows) and each * samples <= MOST_WHOLE


def can_join(value: Any, rows: int) -> bool:
    """Whether batches of such a value can be concatenated: whether it has `rows` rows.

    A model may also return tensors without a row per sample, such as its weights or a mean.
    """
    if isinstance(value, Tensor):
        return value.ndim > 0 and len(value) == rows
    if isinstance(value, Mapping):
        return type(value) is dict and all(can_join(one, rows) for one in value.values())
    if isinstance(value, list) and value and all(isinstance(one, str | bytes) for one in value):
        return len(value) == rows
    listed = isinstance(value, list | tuple) and bool(value)
    return listed and all(can_join(one, rows) for one in value)


def join(values: Sequence[Any]) -> Any:
    """Concatenate batches: tensors by their first dimension, texts one after the other."""
    first = values[0]
    if len(values) == 1:
        return first
    if isinstance(first, Tensor):
        # If a model squeezes its output, that of a single sample lacks a dimension.
        return torch.cat([x.reshape(-1, *first.shape[1:]) for x in values])
    if isinstance(first, Mapping):
        return {key: join([value[key] for value in values]) for key in first}
    if isinstance(first[0], str | bytes):
        return [one for value in values for one in value]
    parts = [join(column) for column in zip(*values, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)


def loss_of_whole(loss: Any, batches: Sequence[tuple[Any, Any]]) -> float:
    """The loss of the concatenated batches (outputs, targets), of which the first one `fits`.

    If batches have different structures, the mean of their losses, weighted by their samples.
    """
    (like, _), *_ = batches
    if all(_is_like(output, like, count_samples(y)) for output, y in batches):
        outputs, targets = zip(*batches, strict=True)
        return float(loss(join(outputs), join(targets)))
    weights = [count_samples(y) for _, y in batches]
    losses = [float(loss(output, y)) for output, y in batches]
    return math.fsum(map(operator.mul, losses, weights)) / sum(weights)


def _is_like(value: Any, like: Any, rows: int) -> bool:
    """Whether an output of `rows` samples has the structure of another one."""
    if isinstance(like, Tensor):
        return isinstance(value, Tensor) and value.numel() == rows * math.prod(like.shape[1:])
    if type(value) is not type(like) or not isinstance(like, list | tuple | dict):
        return type(value) is type(like)
    if isinstance(like, dict):
        same = value.keys() == like.keys()
        return same and all(_is_like(value[key], like[key], rows) for key in like)
    if isinstance(like[0], str | bytes):
        return len(value) == rows
    same = len(value) == len(like)
    return same and all(_is_like(*pair, rows) for pair in zip(value, like, strict=True))


def rebuild(like: Any, tensors: Iterator[Tensor]) -> Any:
    """The tensors in the structure (tuples, lists, dictionaries) of another value."""
    if isinstance(like, Tensor):
        return next(tensors)
    if isinstance(like, Mapping):
        return {key: rebuild(value, tensors) for key, value in like.items()}
    parts = [rebuild(value, tensors) for value in like]
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)


def finite_or_nan(value: float) -> float:
    """A loss as it is stored: NaN if it is not finite."""
    return value if math.isfinite(value) else math.nan
