"""What a good engineer writes in an afternoon: trials of a fixed recipe on every core.

An eager loop, tensors batched by index, one thread a process, joblib over the cores.  Only torch
and joblib are needed; `vs_optuna.py` and `vs_ray_tune.py` drive the same function.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from recipe import Recipe


@functools.cache
def load(problem: str) -> tuple[Any, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The module, and the tensors to train on and to validate on."""
    module = importlib.import_module(problem)
    train_set, val_set = module.dataset()
    return module, train_set.tensors, val_set.tensors


def rates(recipe: Recipe, cycle: int) -> Iterator[float]:
    """From the least to the greatest and back, in `cycle` steps, again and again."""
    for _ in range(recipe.cycles):
        for step in range(cycle):
            away = 2 * abs(step / cycle - 0.5)
            yield recipe.lr_max + (recipe.lr_min - recipe.lr_max) * away


def train(recipe: Recipe, seed: int) -> dict[str, float]:
    """One trial: loss and accuracy on both sets, and when it began and ended."""
    began = time.time()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    module, (x, y), val = load(recipe.problem)
    model, loss = module.model(), module.loss()
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr_min)
    (group,) = optimizer.param_groups
    size, count = recipe.batch_size, len(x) // recipe.batch_size
    schedule = rates(recipe, recipe.cycle_epochs * count)
    model.train()
    for _ in range(recipe.cycle_epochs * recipe.cycles):
        order = torch.randperm(len(x))
        for start in range(0, count * size, size):
            chosen = order[start : start + size]
            group["lr"] = next(schedule)
            optimizer.zero_grad()
            loss(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
    loss_train, perf_train = measure(model, loss, x, y)
    loss_val, perf_val = measure(model, loss, *val)
    found = {"loss_train": loss_train, "perf_train": perf_train}
    found |= {"loss_val": loss_val, "perf_val": perf_val}
    return found | {"began": began, "ended": time.time()}


def measure(model: nn.Module, loss: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """(loss, accuracy) on a whole set."""
    model.eval()
    with torch.no_grad():
        output = model(x)
        return float(loss(output, y)), float((output.argmax(1) == y).float().mean())


def run(recipe: Recipe, trials: int, cores: int) -> dict[str, Any]:
    """All trials, each with its number as its seed: validation accuracies, and the time between."""
    from joblib import Parallel, delayed

    work = (delayed(train)(recipe, seed) for seed in range(trials))
    return summary(Parallel(n_jobs=cores)(work))


def summary(found: list[dict[str, float]]) -> dict[str, Any]:
    """Validation accuracies, and seconds from the first trial's start to the last one's end."""
    began, ended = min(one["began"] for one in found), max(one["ended"] for one in found)
    return {"perf_val": [one["perf_val"] for one in found], "between": ended - began}
