"""The files of a trial's weights, which a worker writes."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import torch
from torch import nn

from sweeper.disk.files import write_swapped
from sweeper.train.problem.spec import TrainContext
from sweeper.train.replica.curves import Trained
from sweeper.train.worker.task import Task


def model_path(context: TrainContext, task: Task, number: int) -> Path:
    """The file of a trial's weights; each budget has its own."""
    path = Path(context.model_path.format(id=task.point_id, number=number))
    return path.with_stem(path.stem + task.suffix)


def save_models(context: TrainContext, task: Task, number: int, trained: Trained) -> dict[str, str]:
    """Save a trial's model, and its loss if that has parameters; return their checksums.

    Raises:
        DiskError: one cannot be written.
    """
    path = model_path(context, task, number)
    found = {"model_sha256": _save(trained.model, path)}
    if trained.loss is not None:
        found["loss_sha256"] = _save(trained.loss, path.with_stem(f"loss{task.suffix}"))
    return found


def _save(model: nn.Module, path: Path) -> str:
    """Save a model durably, before the outcome with its checksum is sent."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    data = buffer.getvalue()
    write_swapped(path, data, sync=True)
    return hashlib.sha256(data).hexdigest()
