"""Finds where in a model an operation is called: module, file and line."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parents[1])


class Places:
    """Finds the current place in the model or the loss while it is called."""

    def __init__(self, model: nn.Module, loss: Any, outermost: frozenset[str]) -> None:
        """`outermost` are the functions that call model and loss; frames beyond are ignored."""
        self._model, self._loss, self._outermost = model, loss, outermost

    def here(self) -> str:
        """The innermost module and line being run, such as `"in 0.act, a Mish (net.py, line 7)"`.

        Empty if no user code is running, as in the backward pass.
        """
        part, line = "", ""
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
        while frame is not None and not (part and line) and not self._is_outermost(frame):
            part = part or self._part(frame.f_locals.get("self"))
            file = frame.f_code.co_filename
            if not line and not file.startswith((_TORCH, _OURS, "<")):
                line = f"({Path(file).name}, line {frame.f_lineno})"
            frame = frame.f_back
        return f"in {part or 'a function'} {line}".strip() if part or line else ""

    def _is_outermost(self, frame: FrameType) -> bool:
        code = frame.f_code
        return code.co_name in self._outermost and code.co_filename.startswith(_OURS)

    def _part(self, owner: object) -> str:
        if not isinstance(owner, nn.Module):
            return ""
        return named_part(self._model, self._loss, owner)


def named_part(model: nn.Module, loss: Any, owner: object) -> str:
    """A module's path in the model, and its class; empty if it is not a part of the model."""
    kind = type(owner).__name__
    for name, part in model.named_modules():
        if part is owner:
            return f"{name}, a {kind}" if name else f"the model, a {kind}"
    losses = loss.modules() if isinstance(loss, nn.Module) else [loss]
    return f"the loss, a {kind}" if any(part is owner for part in losses) else ""
