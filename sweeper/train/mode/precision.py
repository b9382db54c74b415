"""Runs a model in double precision even where its code names single precision."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch.overrides import TorchFunctionMode


class InDouble(TorchFunctionMode):
    """Inside, every request for single precision gives double.

    Models convert their inputs (`images.float() / 255`) and create float32 tensors, which a model
    converted to double could not use.
    """

    def __enter__(self) -> Self:
        self._usual = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        torch.set_default_dtype(self._usual)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        named = {key: _widened(value) for key, value in (kwargs or {}).items()}
        return func(*map(_widened, args), **named)


def _widened(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
