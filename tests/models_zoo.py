"""Small models in the style of real ones, each with data that it can learn something of.

Every function gives a model factory, a loss factory, and the samples x and y, always the same.  The
factories draw initial weights from torch's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Case = tuple[Callable[[], nn.Module], Callable[[], nn.Module], Tensor, Tensor]

SAMPLES = 96


def generator():
    return torch.Generator().manual_seed(0)


def pictures(channels=1, side=8):
    """Noise, and three classes of which each is brighter in rows of its own."""
    drawn = generator()
    y = torch.randint(3, (SAMPLES,), generator=drawn)
    x = torch.randn(SAMPLES, channels, side, side, generator=drawn)
    for label in range(3):
        x[y == label, :, 2 * label : 2 * label + 2] += 1.0
    return x, y


def rows(width=6):
    """Rows of numbers, and the classes of their sums."""
    x = torch.randn(SAMPLES, width, generator=generator())
    return x, (x[:, :3].sum(1) > 0).long() + (x[:, 3:].sum(1) > 0).long()


def words(length=7, count=11):
    """Sequences of words that mostly count upwards."""
    drawn = generator()
    steps = torch.randint(1, 3, (SAMPLES, length + 1), generator=drawn)
    return steps.cumsum(1) % count


def classified(make: Callable[[], nn.Module], x: Tensor, y: Tensor) -> Case:
    return make, nn.CrossEntropyLoss, x, y


# -- pictures -------------------------------------------------------------------------------------


def cnn_dropout() -> Case:
    def make():
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3),
            nn.ReLU(),
            nn.Dropout2d(0.2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(32, 3),
        )

    return classified(make, *pictures())


class Residual(nn.Module):
    """Two convolutions with their bias before normalisation, and a way around them."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.second_norm = nn.BatchNorm2d(width)

    def forward(self, x):
        inner = self.first_norm(self.first(x)).relu()
        return (x + self.second_norm(self.second(inner))).relu()


def residual_block() -> Case:
    def make():
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2, padding=1),
            Residual(6),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 3),
        )

    return classified(make, *pictures())


def depthwise() -> Case:
    """A convolution of each channel by itself, and one over channels."""

    def make():
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.Hardswish(),
            nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU6(),
            nn.Conv2d(6, 8, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        )

    return classified(make, *pictures())


class Vae(nn.Module):
    """Gives what it makes of a sample and what it draws that from; draws in training alone."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(16, 4), nn.Linear(16, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 64), nn.Sigmoid())

    def forward(self, x):
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        latent = mean
        if self.training:
            latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decoder(latent), torch.cat([mean, log_variance], 1)


class VaeLoss(nn.Module):
    """Reconstruction, and distance from a normal distribution."""

    def forward(self, output, y):
        made, latent = output
        mean, log_variance = latent.chunk(2, 1)
        distance = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).mean()
        return nn.functional.binary_cross_entropy(made, y) + 0.1 * distance


def vae() -> Case:
    x, _ = pictures()
    x = x.sigmoid()
    return Vae, VaeLoss, x, x.flatten(1)


class Block(nn.Module):
    """Attention and a small network, each with a way around it, normalised first."""

    def __init__(self, width, heads, *, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width)
        )

    def forward(self, x):
        samples, length, width = x.shape
        mixed = self.mixed(self.before(x)).view(samples, length, 3, self.heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        x = x + self.out(seen.transpose(1, 2).reshape(samples, length, width))
        return x + self.inner(self.between(x))


class Vit(nn.Module):
    """Patches of a picture as words, with one more that stands for all."""

    def __init__(self, *, checkpointed):
        super().__init__()
        self.checkpointed = checkpointed
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.whole = nn.Parameter(torch.zeros(1, 1, 8))
        self.places = nn.Parameter(torch.randn(1, 5, 8) * 0.02)
        self.block = Block(8, 2, causal=False)
        self.norm, self.last = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.whole.expand(len(x), -1, -1), patches], 1) + self.places
        if self.checkpointed and self.training:
            x = checkpoint(self.block, x, use_reentrant=False)
        else:
            x = self.block(x)
        return self.last(self.norm(x)[:, 0])


def vit_block() -> Case:
    return classified(lambda: Vit(checkpointed=False), *pictures())


def vit_block_checkpointed() -> Case:
    return classified(lambda: Vit(checkpointed=True), *pictures())


class Mixing(nn.Module):
    """Mixes the patches of a picture, then their channels."""

    def __init__(self, patches, width):
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.over_patches = nn.Sequential(
            nn.Linear(patches, 8), nn.GELU(), nn.Linear(8, patches), nn.Dropout(0.1)
        )
        self.over_channels = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))

    def forward(self, x):
        x = x + self.over_patches(self.before(x).transpose(1, 2)).transpose(1, 2)
        return x + self.over_channels(self.between(x))


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 2, stride=2)
        self.mixing = nn.Sequential(Mixing(16, 8), nn.LayerNorm(8))
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        patches = self.patches(x).flatten(2).transpose(1, 2)
        return self.last(self.mixing(patches).mean(1))


def mixer() -> Case:
    return classified(Mixer, *pictures())


# -- words and series -----------------------------------------------------------------------------


class Gpt(nn.Module):
    """Says of every word which comes next; gives classes in the second dimension."""

    def __init__(self, *, tied):
        super().__init__()
        self.words, self.places = nn.Embedding(11, 8), nn.Embedding(7, 8)
        self.block = Block(8, 2, causal=True)
        self.norm, self.last = nn.LayerNorm(8), nn.Linear(8, 11, bias=False)
        for part in (self.words, self.places, self.last):
            nn.init.normal_(part.weight, std=0.1)
        if tied:
            self.last.weight = self.words.weight

    def forward(self, x):
        x = self.words(x) + self.places(torch.arange(x.shape[1]))
        return self.last(self.norm(self.block(x))).transpose(1, 2)


def gpt_block() -> Case:
    text = words()
    return classified(lambda: Gpt(tied=False), text[:, :-1], text[:, 1:])


def gpt_block_tied() -> Case:
    text = words()
    return classified(lambda: Gpt(tied=True), text[:, :-1], text[:, 1:])


class Causal(nn.Module):
    """Convolutions that see the past alone, their weights normalised, and a way around them."""

    def __init__(self, inputs, outputs, dilation):
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.padding = 2 * dilation
        self.first = norm(nn.Conv1d(inputs, outputs, 3, padding=self.padding, dilation=dilation))
        self.second = norm(nn.Conv1d(outputs, outputs, 3, padding=self.padding, dilation=dilation))
        self.drop = nn.Dropout(0.1)
        self.around = nn.Conv1d(inputs, outputs, 1)

    def forward(self, x):
        inner = self.drop(self.first(x)[:, :, : -self.padding].relu())
        inner = self.drop(self.second(inner)[:, :, : -self.padding].relu())
        return (inner + self.around(x)).relu()


class Tcn(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Causal(1, 5, 1), Causal(5, 5, 2))
        self.last = nn.Linear(5, 1)

    def forward(self, x):
        return self.last(self.blocks(x)[:, :, -1])


def tcn_weight_norm() -> Case:
    drawn = generator()
    start = torch.rand(SAMPLES, 1, generator=drawn) * 6
    waves = torch.sin(start + torch.arange(17) * 0.5)
    return Tcn, nn.MSELoss, waves[:, None, :-1], waves[:, -1:]


class Bag(nn.Module):
    """The mean of a text's words decides."""

    def __init__(self):
        super().__init__()
        self.words = nn.EmbeddingBag(11, 6, mode="mean")
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.words(x))


def embedding_classifier() -> Case:
    x = torch.randint(11, (SAMPLES, 7), generator=generator())
    return classified(Bag, x, (x < 4).sum(1).clamp(1, 3) - 1)


# -- tables and equations -------------------------------------------------------------------------


class TableBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.inner = nn.Sequential(
            nn.Linear(width, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, width), nn.Dropout(0.1)
        )

    def forward(self, x):
        return x + self.inner(self.norm(x))


def tabular_resnet() -> Case:
    def make():
        blocks = [TableBlock(8), TableBlock(8)]
        return nn.Sequential(
            nn.Linear(6, 8), *blocks, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
        )

    return classified(make, *rows())


class FtTransformer(nn.Module):
    """Each number of a row as a word, with one more that stands for all."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 8) * 0.3)
        self.bias = nn.Parameter(torch.randn(6, 8) * 0.3)
        self.whole = nn.Parameter(torch.randn(8) * 0.3)
        self.block = Block(8, 2, causal=False)
        self.last = nn.Sequential(nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        words = x[..., None] * self.weight + self.bias
        whole = self.whole.expand(len(x), 1, -1)
        return self.last(self.block(torch.cat([whole, words], 1))[:, 0])


def ft_transformer() -> Case:
    return classified(FtTransformer, *rows())


class Pinn(nn.Module):
    """A function u of one number, and what is left over of u'' = -u."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)
        )

    def forward(self, x):
        def derivative(u: Tensor, x: Tensor) -> Tensor:
            return torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)[0]

        with torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            u = self.inner(x)
            left = derivative(derivative(u, x), x) + u
        return torch.cat([u, left], 1)


def pinn() -> Case:
    x = torch.rand(SAMPLES, 1, generator=generator()) * math.pi
    return Pinn, nn.MSELoss, x, torch.cat([x.sin(), torch.zeros_like(x)], 1)


ZOO: dict[str, Callable[[], Any]] = {
    function.__name__: function
    for function in (
        cnn_dropout,
        residual_block,
        depthwise,
        vae,
        vit_block,
        vit_block_checkpointed,
        gpt_block,
        gpt_block_tied,
        tcn_weight_norm,
        mixer,
        tabular_resnet,
        ft_transformer,
        pinn,
        embedding_classifier,
    )
}
