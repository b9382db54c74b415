"""A point's fingerprint: how the problem's code behaves for its parameters.

After an edit of the code it shows whether the edit concerns the point.  It covers initial weights,
the traces of a training step and an evaluation, and the results of a few steps, all from the
point's own seed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.train.data.checksum import Checksum
from sweeper.train.data.samples import Batch, Data, Indices
from sweeper.train.eager.probes import Probe
from sweeper.train.problem.behaviour.prints import MAKER, Print
from sweeper.train.problem.measure.inputs import call_model
from sweeper.train.problem.measure.metrics import EARLIER_NAMES, evaluating
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.streams import Streams, fork_rng
from sweeper.train.tuning.names import FINGERPRINT
from sweeper.train.vectorize.trace import CannotPackError, record, record_evaluation

STEPS = 3
SAMPLES = 32
"""Samples of each batch, spread over the whole set, since data may be sorted."""
RATE = 0.01


def fingerprint(
    problem: Problem, data: Data, seed: int, threads: int, signature: str, encoded: str
) -> Print:
    """The fingerprint of the point with these encoded parameters; has no side effects.

    The number of `threads` affects the last bits.  Exceptions of the user's code are not caught.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with fork_rng():
            return _take(problem, data, Streams(seed, signature, FINGERPRINT, 0), encoded)
    finally:
        torch.set_num_threads(before)


def _take(problem: Problem, data: Data, streams: Streams, encoded: str) -> Print:
    streams.seed_globals("order")  # data may be random on access
    places = [_places(len(data.train), number) for number in range(STEPS)]
    rare = _with_rare(data.train.labels, np.concatenate(places))
    batches = [*data.train.batches([*places, *rare])]
    evaluated = next(iter(data.val.batches([_places(len(data.val), 0)])))
    weights, trace = _begin(problem, data, streams, encoded, batches[0], evaluated)
    probe = Probe.make(problem, data, streams, encoded)
    with _losses(probe.loss) as losses:
        for batch in batches:
            probe.step(batch, RATE)
    output, loss = _evaluate(probe, evaluated)
    after = _digest([dict(_state(probe.model)), output])
    said = [
        _kept_style(problem.accuracy_style),
        _described(problem.optimizer(encoded)),
        repr(problem.clipping),
    ]
    rough = [_size(weights), *losses, loss]
    exact = hashlib.sha256("".join([_digest(weights), after, *map(repr, rough)]).encode())
    return Print(MAKER, json.dumps(said), trace, exact.hexdigest(), tuple(rough))


def _begin(
    problem: Problem,
    data: Data,
    streams: Streams,
    encoded: str,
    batch: Batch,
    evaluated: Batch,
) -> tuple[dict[str, Tensor], str]:
    """Initial weights and buffers of a new model and loss, and the digests of their traces."""
    probe = Probe.make(problem, data, streams, encoded)
    state = {name: value.detach().clone() for name, value in _state(probe.model)}
    if isinstance(probe.loss, nn.Module):
        state |= {f"loss.{name}": each.detach().clone() for name, each in _state(probe.loss)}

    def step() -> str:
        return record(probe.model, probe.loss, *batch)[0].digest

    def evaluation() -> str:
        with evaluating(probe.model, probe.loss):
            return record_evaluation(probe.model, probe.loss, *evaluated).digest

    return state, f"{_recorded(step)} {_recorded(evaluation)}"


def _recorded(trace: Callable[[], str]) -> str:
    """A trace's digest; empty if it cannot be recorded: the steps' results then have to do."""
    try:
        return trace()
    except (CannotPackError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return ""
    except RuntimeError:  # raised by torch
        return ""


def _places(count: int, number: int) -> Indices:
    """The places of a batch's samples in a set of `count` samples."""
    places = np.linspace(0, count - 1, min(SAMPLES, count)).round().astype(np.int64)
    return (places + number) % count


def _with_rare(labels: Tensor | None, known: Indices) -> list[Indices]:
    """A batch with samples of labels that do not occur at the known places, if there are any.

    A loss may treat a rare label differently, for example by its weight.  The batch also has other
    labels, since a weighted mean over a single label does not show its weight.
    """
    if labels is None or labels.is_floating_point() or labels.numel() > _MOST_LABELS:
        return []
    rows = labels.reshape(len(labels), -1)
    seen, every = (set(np.unique(part.numpy()).tolist()) for part in (rows[known], rows))
    missing = sorted(every - seen)
    found = [int((rows == label).any(1).nonzero()[0]) for label in missing[:SAMPLES]]
    return [np.concatenate([np.array(found), known[:SAMPLES]])] if found else []


_MOST_LABELS = 10_000_000
"""Up to so many labels are searched."""


def _state(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


@contextlib.contextmanager
def _losses(loss: Any) -> Iterator[list[float]]:
    """Collects the losses that are computed inside, if `loss` is a module."""
    found: list[float] = []

    def note(_module: object, _given: object, value: Any) -> None:
        if isinstance(value, Tensor) and value.numel() == 1:
            found.append(float(value.detach()))

    if not isinstance(loss, nn.Module):
        yield found
        return
    handle = loss.register_forward_hook(note)
    try:
        yield found
    finally:
        handle.remove()


def _evaluate(probe: Probe, batch: Batch) -> tuple[Any, float]:
    """Output and loss in evaluation mode."""
    x, y = batch
    with torch.no_grad(), evaluating(probe.model, probe.loss):
        output = call_model(probe.model, x)
        return output, float(probe.loss(output, y))


def _kept_style(style: str) -> str:
    """A style's stored name, which is its earliest."""
    earlier = {now: before for before, now in EARLIER_NAMES.items()}
    return earlier.get(style, style)


def _digest(value: Any) -> str:
    checksum = Checksum()
    checksum.add(value)
    return checksum.sha256


def _size(state: Mapping[str, Tensor]) -> float:
    """The sum of the absolute values of all weights."""
    return float(sum(float(value.detach().double().abs().sum()) for value in state.values()))


def _described(value: Any) -> str:
    """A setting as text that is the same in every process."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_described(value[key])}" for key in sorted(value, key=repr))
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
