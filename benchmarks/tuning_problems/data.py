"""What the problems train on: scikit-learn's own sets and made-up ones, always split alike.

Nothing is drawn from the sweep's generators, so every sweep of a problem, and its oracle, see the
same samples.  Made-up sets have many samples to validate on, which says more of a difference.
"""

import itertools

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

Sets = tuple[Dataset, Dataset]


def generator() -> np.random.Generator:
    """Always the same one."""
    return np.random.default_rng(13)


def split(x: ArrayLike, y: ArrayLike, train: int, most: int | None = None) -> Sets:
    """So many samples to train on and the rest, or `most` of them in all, to validate on.

    Class indices, shape (samples,), become whole numbers; everything else is a float.
    """
    order = generator().permutation(len(x))[:most]
    inputs = torch.as_tensor(np.asarray(x, dtype=np.float32)[order])
    targets = np.asarray(y)[order]
    whole = targets.ndim == 1
    labels = torch.as_tensor(targets.astype(np.int64 if whole else np.float32))
    return (
        TensorDataset(inputs[:train], labels[:train]),
        TensorDataset(inputs[train:], labels[train:]),
    )


def standard(values: ArrayLike) -> np.ndarray:
    """Each column with mean 0 and deviation 1; one column where there is no second dimension."""
    columns = np.asarray(values, dtype=np.float64)
    columns = columns.reshape(len(columns), -1)
    return (columns - columns.mean(0)) / columns.std(0)


def digits(train: int = 1437, shape: tuple[int, ...] = (64,), most: int | None = None) -> Sets:
    """Handwritten digits, pixels from 0 to 1."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return split(x.reshape(-1, *shape) / 16, y, train, most)


def rows() -> Sets:
    """240 digits as 8 rows of 8 pixels each."""
    return digits(240, (8, 8))


def cancer() -> Sets:
    """Breast cancer: 30 measurements, two classes."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return split(standard(x), y, 380)


def wine() -> Sets:
    """Wine: 13 measurements, three classes."""
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    return split(standard(x), y, 100)


def iris() -> Sets:
    """Iris: 4 measurements as they are, three classes."""
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    return split(x, y, 100)


def diabetes() -> Sets:
    """Diabetes: 10 measurements and a scaled target."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return split(standard(x), standard(y), 330)


def moons() -> Sets:
    """Two moons that overlap."""
    from sklearn.datasets import make_moons

    return split(*make_moons(1200, noise=0.25, random_state=0), 200)


def spirals(train: int = 600) -> Sets:
    """Two spirals of a turn and a half, with some noise."""
    draw = generator()
    labels = np.arange(train + 1000) % 2
    along = np.sqrt(draw.uniform(0.02, 1, len(labels)))
    angle = along * 3 * np.pi + labels * np.pi
    x = along[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return split(2 * (x + 0.03 * draw.standard_normal(x.shape)), labels, train)


def friedman(train: int = 400, *, scaled: bool) -> Sets:
    """Friedman #1: ten inputs, of which five matter; targets as they are, or scaled."""
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(train + 1000, noise=1.0, random_state=0)
    return split(2 * x - 1, standard(y) if scaled else y[:, None], train)


def parity() -> Sets:
    """Twelve signs; the class is the parity of three of them."""
    bits = np.arange(4096)[:, None] >> np.arange(12) & 1
    return split(2 * bits - 1, bits[:, [1, 5, 8]].sum(1) % 2, 1000, 3000)


def labels(train: int = 800) -> Sets:
    """Twenty inputs and five labels, each of which any sample may have."""
    draw = generator()
    x = draw.standard_normal((train + 1000, 20))
    hidden = np.tanh(x @ draw.standard_normal((20, 8)) / 2)
    scores = hidden @ draw.standard_normal((8, 5)) + 0.2 * draw.standard_normal((len(x), 5))
    return split(x, scores > 0.3, train)


def clusters() -> Sets:
    """Four classes of three clusters each, and a few wrong labels; 4,000 samples to train on."""
    from sklearn.datasets import make_classification

    x, y = make_classification(
        5500,
        20,
        n_informative=8,
        n_classes=4,
        n_clusters_per_class=3,
        flip_y=0.03,
        random_state=0,
    )
    return split(standard(x), y, 4000)


def shells() -> Sets:
    """Three shells around the origin, in six dimensions; 3,000 samples to train on."""
    from sklearn.datasets import make_gaussian_quantiles

    x, y = make_gaussian_quantiles(n_samples=4500, n_features=6, n_classes=3, random_state=0)
    return split(x, y, 3000)


def echoes() -> Sets:
    """Noise of four kinds, by how much of a value is left in the next one."""
    draw = generator()
    kinds = np.arange(1400) % 4
    left = np.array([-0.8, -0.3, 0.3, 0.8])[kinds]
    values = [draw.standard_normal(len(kinds))]
    for _ in range(7):
        fresh = draw.standard_normal(len(kinds)) * np.sqrt(1 - left**2)
        values.append(left * values[-1] + fresh)
    return split(np.stack(values, axis=1)[:, :, None], kinds, 400)


def sums() -> Sets:
    """Eight numbers with marks at two of them, whose sum, scaled, is the target."""
    draw = generator()
    numbers = draw.uniform(-1, 1, (1500, 8))
    marks = np.argsort(draw.random(numbers.shape), axis=1) < 2
    return split(np.stack([numbers, marks], axis=2), standard((numbers * marks).sum(1)), 500)


def stripes() -> Sets:
    """Stripes in noise, by one of four directions, any phase."""
    draw = generator()
    kinds = np.arange(1300) % 4
    turn = (kinds * np.pi / 4)[:, None, None]
    down, across = np.mgrid[:8, :8]
    phase = draw.uniform(0, 2 * np.pi, (len(kinds), 1, 1))
    waves = np.sin(1.6 * (np.cos(turn) * across + np.sin(turn) * down) + phase)
    return split((waves + 1.2 * draw.standard_normal(waves.shape))[:, None], kinds, 300)


def tokens() -> Sets:
    """Six words of a small language, as vectors; the class is the word after the mark."""
    draw = generator()
    words = draw.integers(1, 4, (1400, 6))
    places = draw.integers(0, 5, len(words))
    words[np.arange(len(words)), places] = 0
    return split(np.eye(4)[words], words[np.arange(len(words)), places + 1] - 1, 400)


def waves() -> Sets:
    """A noisy sum of two sines over one input; the target is as it is."""
    draw = generator()
    x = draw.uniform(-1, 1, 1200)
    y = np.sin(4 * x) + 0.5 * np.sin(11 * x) + 0.15 * draw.standard_normal(len(x))
    return split(x[:, None], y[:, None], 200)


# -- parts of models ------------------------------------------------------------------------------


def dense(*widths: int, inner: type[nn.Module] = nn.ReLU, norm: bool = False) -> nn.Sequential:
    """Linear layers of these widths with a nonlinearity between, after BatchNorm where asked."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(before, after), *[nn.BatchNorm1d(after)] * norm, inner()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


class Residual(nn.Module):
    """What a module adds to its input."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        found: Tensor = x + self.inner(x)
        return found


class Recurrent(nn.Module):
    """What a recurrent layer gives at the end of a sequence: simple, or a GRU.

    torch's own has no packs.
    """

    def __init__(self, inputs: int, width: int, *, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.enter = nn.Linear(inputs, 3 * width if gated else width)
        self.stay = nn.Linear(width, 3 * width if gated else width)

    def forward(self, x: Tensor) -> Tensor:
        """From shape (batch, length, inputs) to (batch, width)."""
        first, *rest = self.enter(x).unbind(1)
        state = first.chunk(3, 1)[2].tanh() if self.gated else first.tanh()
        for entered in rest:
            stayed = self.stay(state)
            if not self.gated:
                state = (entered + stayed).tanh()
                continue
            (reset, keep, new), (reset_by, keep_by, old) = entered.chunk(3, 1), stayed.chunk(3, 1)
            fresh = (new + (reset + reset_by).sigmoid() * old).tanh()
            state = fresh + (keep + keep_by).sigmoid() * (state - fresh)
        return state


class Attending(nn.Module):
    """A transformer block over a sequence whose places are learned, and the mean of all places."""

    def __init__(self, inputs: int, length: int, width: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.places = nn.Parameter(0.1 * torch.randn(length, width))
        self.block = nn.TransformerEncoderLayer(width, 1, 2 * width, 0.0, batch_first=True)
        self.classify = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """From shape (batch, length, inputs) to (batch, outputs)."""
        found: Tensor = self.classify(self.block(self.embed(x) + self.places).mean(1))
        return found
