"""A model in double precision, where it names single precision, too."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch.overrides import TorchFunctionMode


class InDouble(TorchFunctionMode):
    """Inside, whatever asks for single precision gets double.

    Models convert what they are given (`images.float() / 255`) and make numbers of the usual type;
    converted to double themselves, they could not go on with that.
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
