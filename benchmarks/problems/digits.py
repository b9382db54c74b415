"""The 1,797 handwritten digits that scikit-learn ships, always split in the same way."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset


def images() -> tuple[Tensor, Tensor]:
    """Pixels from 0 to 1, shape (1797, 8, 8), and labels."""
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x.reshape(-1, 8, 8) / 16, dtype=torch.float32), torch.tensor(y)


def split(x: Tensor, y: Tensor) -> tuple[Dataset, Dataset]:
    """Four fifths to train on, one fifth to validate on."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    x, y = x[order], y[order]
    cut = len(x) * 4 // 5
    return TensorDataset(x[:cut], y[:cut]), TensorDataset(x[cut:], y[cut:])
