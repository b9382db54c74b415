"""Every rule, held to two promises: it means what torch means, and its bits are a replica's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import nn

from models_zoo import ZOO
from sweeper.train.mode.precision import InDouble
from sweeper.train.packs.members import state_of
from sweeper.train.problem.optimizer.optimizers import make_optimizer, recipe_of, set_rate
from sweeper.train.problem.optimizer.recipe import Clipping, Recipe
from sweeper.train.vectorize.formulas import FORMULAS
from sweeper.train.vectorize.lowering import RULES, batched, operations_of
from sweeper.train.vectorize.optimizers import make_stacked
from sweeper.train.vectorize.random import (
    RANDOM_RULES,
    RandomNumbers,
    bernoulli,
    between,
    exponential,
    normal,
    step_keys,
)
from sweeper.train.vectorize.trace import CannotPackError, held, record, trained

SIZES = (2, 3, 5, 8, 17, 32)


pytestmark = pytest.mark.usefixtures("one_thread")


class Turned(nn.Module):
    """Looks at its numbers in every way that has a rule, and does arithmetic on them."""

    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x):
        turned = (x.t() * 2.0 - 0.25).transpose(0, 1)
        spread = (turned.unsqueeze(1) + x.unsqueeze(-2)).squeeze(1) / self.scale
        centred = spread - spread.mean(1, keepdim=True)
        return (-centred) / (1.0 + centred.sum(-1, keepdim=True) * 0.01 + self.scale.sum() * 0.1)


class InTwo(nn.Module):
    """Samples of two dimensions each: a product that torch makes of a view."""

    def __init__(self, width):
        super().__init__()
        self.inner = nn.Linear(width, width, bias=False)

    def forward(self, x):
        return self.inner(x.view(len(x), 1, -1)).squeeze(1) + self.inner(x).mean() * 0.01


ACTIVATIONS = (
    nn.ReLU,
    lambda: nn.ReLU(inplace=True),
    nn.ReLU6,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.PReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.SiLU,
    nn.GELU,
    lambda: nn.GELU("tanh"),
    nn.ELU,
    nn.Softplus,
)


def model_of(activation, inputs, hidden, outputs):
    return nn.Sequential(
        nn.Linear(inputs, hidden), activation(), nn.Linear(hidden, outputs, bias=hidden % 2 == 0)
    )


@dataclass(frozen=True)
class Case:
    """A step to hold the rules to: a model, the shape of its samples, and what is learnt."""

    make: Callable[[], nn.Module]
    x: tuple[int, ...]
    """The shape of a batch."""
    y: tuple[int, ...]
    """The shape of its targets, which are classes where `classes` are given."""
    classes: int = 0
    words: int = 0
    """Where x is whole numbers: how many different ones."""
    loss: nn.Module = field(default_factory=nn.MSELoss)
    kind: torch.dtype = torch.int64
    """Of whole numbers."""

    def sample(self, seed):
        """A model and a batch."""
        torch.manual_seed(seed)
        x = (
            torch.randint(self.words, self.x, dtype=self.kind)
            if self.words
            else torch.randn(self.x)
        )
        y = torch.randint(self.classes, self.y) if self.classes else torch.randn(self.y)
        model = self.make()
        with torch.no_grad():
            for buffer in model.buffers():
                if buffer.is_floating_point():
                    buffer.add_(torch.rand(buffer.shape))
        return model, x, y


SHAPES = [(2, 3, 2, 5), (7, 13, 3, 9), (64, 32, 10, 32), (5, 128, 4, 17), (33, 50, 1, 3)]
"""Inputs, hidden, outputs and samples; no power of two divides all of them."""


def learnt(make, shape):
    """The cases of a model of rows: of classes, of numbers, and of sums."""
    inputs, _, outputs, size = shape
    if outputs > 1:
        yield Case(make, (size, inputs), (size,), outputs, loss=nn.CrossEntropyLoss())
    for reduction in ("mean", "sum"):
        yield Case(make, (size, inputs), (size, outputs), loss=nn.MSELoss(reduction=reduction))


def dense(*inner, inputs=6, outputs=3, size=8, **more):
    """The case of some modules between a linear one and the classes."""

    def make():
        made = [module() for module in inner]
        return nn.Sequential(nn.Linear(inputs, 9), *made, nn.Linear(9, outputs))

    return Case(make, (size, inputs), (size,), outputs, loss=nn.CrossEntropyLoss(**more))


class Frozen(nn.Module):
    """A layer that is not trained, and one of normalisation that no longer learns."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(6, 9), nn.BatchNorm1d(9)
        self.first.bias.requires_grad_(False)
        self.norm.eval()

    def forward(self, x):
        return self.norm(self.first(x))


class Noisy(nn.Module):
    """Draws for each number, and for each feature."""

    def forward(self, x):
        x = x * torch.rand_like(x)
        return nn.functional.dropout1d(x.unsqueeze(2), 0.3).squeeze(2)


class Counts(nn.Module):
    """Keeps more than numbers between steps: what it counted, what it saw last, and a mean."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("last", torch.zeros(9))
        self.register_buffer("mean", torch.zeros(9))
        self.register_buffer("fixed", torch.rand(9))

    def forward(self, x):
        self.steps += 1
        self.last.copy_(x.detach()[0])
        self.mean = self.mean * 0.9 + x.detach().mean(0) * 0.1
        return x * self.fixed - self.mean / self.steps


class Parts(nn.Module):
    """Takes rows apart and puts them together again."""

    def forward(self, x):
        one, two, three = x.split([2, 3, 4], dim=1)
        four, five = x[:, 1:].chunk(2, -1)
        rows = torch.stack([row * 1.5 for row in x.view(-1, 3, 3).unbind(1)], dim=1)
        joined = torch.cat([three, one, two], dim=-1) + rows.flatten(1)
        padded = nn.functional.pad(four * five, (2, 3))
        return joined + padded + x.select(1, 4).unsqueeze(1) + rows.permute(2, 0, 1)[0].sum()


class Arithmetic(nn.Module):
    """Elementwise functions of all kinds, and constants that are made in each step."""

    def forward(self, x):
        size = x.shape[1]
        positions = torch.arange(size) + torch.arange(1, size + 1) * torch.full((size,), 0.5)
        scaled = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        scaled = scaled + positions * 0.01 + torch.zeros(size) + torch.ones(size) * 0.1
        squares = torch.sqrt(x.abs() + 1.0) + torch.reciprocal(x * x + 1) + (2 - x.clamp(-1, 1))
        chosen = torch.where(x > 0.1, scaled, squares)
        chosen = chosen.masked_fill((x < -1) & ~(x >= 2), 0.3)
        chosen = chosen.masked_fill(torch.logical_not(x.le(1.5)), 0.5)
        chosen = chosen.masked_fill((x > 0) | (x.ge(scaled) & x.le(squares)), torch.zeros(()))
        chosen = chosen + (x.ne(chosen)).float() + x.new_zeros(size) + torch.zeros_like(x)
        chosen = chosen + x.unsqueeze(1).unsqueeze(3).squeeze((1, 3)) * 0.1
        chosen = chosen + x.unsqueeze(1).unsqueeze(3).squeeze() * 0.1
        chosen = torch.maximum(chosen, x * 0.3) + torch.minimum(squares, scaled)
        whole = torch.exp(-squares) + torch.log(squares + 1) + torch.log1p(squares)
        normed = nn.functional.normalize(chosen) + x / (x.std(1, keepdim=True) + x.var() + 1)
        normed = (normed + 1).add_(1.0).mul_(0.5).sub_(0.1).div_(1.1) * (x != 7) + (x == 7)
        return whole * normed - x.amax(1, keepdim=True)


class Recurrent(nn.Module):
    """Reads its numbers one after the other, in place."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x):
        state = x[:, :3] * 0
        for part in x.view(-1, 3, 3).unbind(1):
            state = self.inner(state).add_(part).tanh_() * self.inner(part).sigmoid_()
        return torch.cat([state, x[:, 3:]], 1)


class Attending(nn.Module):
    """Attention over the rows of a sample, with a mask or without."""

    def __init__(self, how):
        super().__init__()
        self.how, self.inner = how, nn.Linear(6, 6)
        if how in {"plain", "lean"}:
            self.inner = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        rows = x.shape[1]
        if self.how == "plain":
            return self.inner(x, x, x)[0]
        if self.how == "lean":
            return self.inner(x, x, x, need_weights=False)[0]
        if self.how == "causal":
            return nn.functional.scaled_dot_product_attention(x, x, self.inner(x), is_causal=True)
        mask = torch.ones(rows, rows, dtype=torch.bool)
        mask = mask.triu(1) if self.how == "upper" else mask.tril()
        scores = self.inner(x).bmm(x.transpose(1, 2)).masked_fill(mask, -1e9)
        return scores.softmax(-1).bmm(x)


class Padded(nn.Module):
    """Attention that leaves out the words 0, in one way or another; a sample may have no other."""

    def __init__(self, how):
        super().__init__()
        self.how, self.words = how, nn.Embedding(11, 6)
        self.last = nn.Linear(6, 3)
        if how == "layer":
            self.inner = nn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=True)

    def forward(self, x):
        h = self.words(x)
        if self.how == "layer":
            h = self.inner(h, src_key_padding_mask=x == 0)
        else:
            h = h.unsqueeze(1) if self.how == "heads" else h
            seen = (x != 0)[:, None, None] if self.how == "heads" else (x != 0)[:, None]
            seen = seen.expand(*h.shape[:-1], -1)
            h = nn.functional.scaled_dot_product_attention(h, h, h, attn_mask=seen)
        return self.last(h.flatten(1, -2).mean(1))


def with_padding(how):
    """The case of words of which many are 0."""
    return Case(lambda: Padded(how), (9, 4), (9,), 3, words=2, loss=nn.CrossEntropyLoss())


def block(norm_first, dropout):
    return lambda: nn.TransformerEncoderLayer(
        6, 2, 10, dropout, batch_first=True, norm_first=norm_first
    )


def rows(*inner, size=5):
    """The case of modules between rows of words and the classes of their sample."""

    def make():
        made = [module() for module in inner]
        return nn.Sequential(
            nn.Embedding(11, 6, padding_idx=2), *made, nn.Flatten(), nn.Linear(42, 3)
        )

    return Case(make, (size, 7), (size,), 3, words=11, loss=nn.CrossEntropyLoss())


def maps(*inner, channels=1, sides=(8, 8), size=5):
    """The case of modules that end in 3 numbers of samples with channels and positions."""
    return Case(
        lambda: nn.Sequential(*(module() for module in inner)),
        (size, channels, *sides),
        (size,),
        3,
        loss=nn.CrossEntropyLoss(),
    )


def convolutional():
    yield maps(
        lambda: nn.Conv2d(1, 5, 3, padding=1),
        lambda: nn.BatchNorm2d(5),
        nn.ReLU,
        lambda: nn.Dropout2d(0.3),
        lambda: nn.MaxPool2d(2),
        lambda: nn.Conv2d(5, 8, 3, stride=2, bias=False),
        lambda: nn.GroupNorm(2, 8),
        nn.Flatten,
        lambda: nn.Linear(8, 3),
    )
    yield maps(
        lambda: nn.Conv2d(4, 8, (3, 2), padding=(2, 0), dilation=2, groups=2),
        lambda: nn.AvgPool2d(2),
        lambda: nn.Conv2d(8, 8, 3, padding=1, stride=2, groups=8),
        lambda: nn.BatchNorm2d(8, affine=False),
        lambda: nn.AdaptiveAvgPool2d(1),
        nn.Flatten,
        lambda: nn.Linear(8, 3),
        channels=4,
        sides=(9, 7),
        size=7,
    )
    yield maps(
        lambda: nn.Conv2d(3, 16, 3, padding="same"),
        lambda: nn.AdaptiveAvgPool2d((2, 3)),
        lambda: nn.Conv2d(16, 3, 2),
        lambda: nn.AdaptiveAvgPool2d(1),
        nn.Flatten,
        channels=3,
        size=16,
    )
    yield maps(
        lambda: nn.Conv1d(2, 6, 4, stride=2, dilation=2, padding=3),
        lambda: nn.BatchNorm1d(6),
        nn.Tanh,
        lambda: nn.Conv1d(6, 4, 2, groups=2),
        lambda: nn.AdaptiveAvgPool1d(1),
        nn.Flatten,
        lambda: nn.Linear(4, 3),
        channels=2,
        sides=(17,),
    )
    # Of every position a class.
    for sides in ((6,), (4, 5)):
        kind = nn.Conv1d if len(sides) == 1 else nn.Conv2d
        yield Case(
            lambda kind=kind: kind(4, 3, 3, padding=1),
            (5, 4, *sides),
            (5, *sides),
            3,
            loss=nn.CrossEntropyLoss(ignore_index=1),
        )


class Watching(nn.Module):
    """Keeps what comes back to it: the gradient between a loss and a softmax."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x):
        logs = x.log_softmax(1)
        logs.register_hook(self.keep)
        return logs

    def keep(self, gradient):
        self.seen.copy_(gradient.mean(0))


def weighing(x, y):
    """Cross entropy of each sample, in shares of its own."""
    each = nn.functional.cross_entropy(x, y, reduction="none", ignore_index=0)
    return (each * each).mean()


def halving(x, y):
    """Cross entropy of which one class counts half."""
    weights = torch.ones_like(y, dtype=x.dtype).masked_fill(y == 1, 0.5)
    weights = weights + torch.zeros_like(y, dtype=x.dtype).masked_fill(y == 0, 0.25)
    weights = weights + y.new_zeros(len(y), dtype=x.dtype).masked_fill(y == 2, 0.125)
    return (nn.functional.cross_entropy(x, y, reduction="none") * weights).mean()


def leaving_out(x, y):
    """Cross entropy that leaves out what it makes of the labels, though they are all its own."""
    return nn.functional.cross_entropy(x, y.masked_fill(y == 2, -100))


def looking_between(x, y):
    """Cross entropy, and what it comes from."""
    logs = x.log_softmax(1)
    return nn.functional.nll_loss(logs, y, reduction="sum") + logs.square().mean()


class Applied(nn.Module):
    """A function of nine numbers of each sample, and of buffers."""

    def __init__(self, function, buffers=()):
        super().__init__()
        self.first, self.function = nn.Linear(6, 9), function
        for place, buffer in enumerate(buffers):
            self.register_buffer(f"buffer{place}", buffer.clone())

    def forward(self, x):
        h = self.first(x)
        return self.function(h, *self.buffers()) if list(self.buffers()) else self.function(h)


def squared(output, _):
    """A loss that looks at nothing else."""
    return output.square().mean() + output.mean()


def applied(function, buffers=(), size=7):
    """The case of a function."""
    return Case(lambda: Applied(function, buffers), (size, 6), (size, 3), loss=squared)


def square(h):
    """Three by three of each sample."""
    return h.view(len(h), 1, 3, 3)


def numbered(h):
    """A class for each sample."""
    return torch.arange(len(h)) % 3


def in_place(h):
    h = (h * 0.5).exp_() + (h * 0.3).neg_()
    h = (h.abs().sqrt_() * 0.5).pow_(1.5).clamp_min_(0.1) + (h * 1.5).clamp_(0.1, 2.0)
    return h.masked_fill((h > 0.2).bitwise_and_(h < 0.7), 0.0)


def drawn(h):
    """Everything that is drawn."""
    noise = (
        torch.randn_like(h) + torch.randn(7, 9) * torch.rand(7, 1) + torch.normal(0.0, 2.0, (9,))
    )
    noise = noise + h.new_empty(7, 9).normal_(1.0, 0.5) + torch.empty(9).uniform_(-1, 1)
    noise = noise + torch.normal(h.detach(), 0.5) + torch.normal(h.detach(), h.detach().exp())
    noise = noise + torch.normal(0.5, h.detach().exp()) + h.new_empty(9).exponential_(2.0)
    kept = torch.bernoulli(h.detach().sigmoid()) * h.new_empty(7, 1).bernoulli_(0.7)
    whole = torch.randint(5, (9,)) - torch.randint(2, 4, (7, 1))
    return h[torch.randperm(7)] * kept + noise * h + whole


def logical(h):
    kept = torch.logical_and(h > 0, h < 1).logical_or(h > 2).logical_or_(h.isnan())
    kept = kept | (h > 0.5).any(1, keepdim=True)
    return torch.nan_to_num(h.masked_fill(kept, 0.1)) + h.floor() + h.ceil() + h.trunc() + h.round()


def made(h):
    """Numbers out of nothing."""
    steps = torch.arange(0, 18, 2) + torch.linspace(0, 1, 9)
    return h @ torch.eye(9) * steps + torch.fill(h, 0.5)


def assigned(h):
    """Puts numbers where others were, in place."""
    h = h.view(7, 3, 3) * 1.5
    h[:, numbered(h)[:3], numbered(h)[1:4]] = h[:, 0] * 2
    return h


F = nn.functional

FUNCTIONS = (
    *(F.hardswish, F.hardsigmoid, F.mish, F.celu, F.selu, F.logsigmoid, F.softsign),
    *(F.tanhshrink, F.hardshrink, F.softshrink),
    lambda h: F.celu(h, 0.7),
    lambda h: F.glu(h[:, 1:]) + F.glu(h[:-1], 0)[:, :4].mean(),
    lambda h: F.threshold(h, 0.1, 0.2),
    *(torch.sin, torch.cos, torch.tan, torch.sinh, torch.cosh, torch.atan, torch.asinh),
    *(torch.erf, torch.expm1, torch.exp2),
    lambda h: torch.log2(h.abs() + 0.1) + torch.log10(h.abs() + 0.1),
    lambda h: torch.asin(h.tanh()) + torch.acos(h.tanh()),
    lambda h: torch.atan2(h, h[:, :1] + 1) + torch.logaddexp(h, h[:1] * 2),
    lambda h: torch.logaddexp(h, h) + torch.xlogy(h, h.abs() + 1) + torch.sign(h) * h,
    lambda h: h.abs() ** 1.7 + (h.abs() + 0.1) ** h + 2.0**h,
    lambda h: torch.lerp(h, h.square(), 0.3) + torch.lerp(h, h[:1], h.sigmoid()),
    lambda h: torch.addcmul(h, h, h[:1], value=0.5) + torch.addcdiv(h, h, h.exp(), value=2),
    lambda h: torch.clamp(h, min=h.mean(1, keepdim=True)) + (h - 0.5).clamp(max=h.mean()),
    *(in_place, drawn, logical, made),
    # Sums and their like.
    lambda h: h.logsumexp(1) + h.logsumexp((0, 1), keepdim=True)[0],
    lambda h: h.cumsum(1) + h.cumsum(0),
    lambda h: (h + 2).cumprod(1),
    lambda h: h.prod(1, keepdim=True) + h[:2].prod(0),
    lambda h: h.max(1, keepdim=True)[0] + h.min(0)[0] + h.max() + h.min(),
    lambda h: h.amin(1, keepdim=True) + h.amin() + h.amax(0),
    lambda h: (
        h.norm(p=1, dim=1) + h.norm(p=3, dim=1) + torch.linalg.vector_norm(h, float("inf"), 1)
    ),
    lambda h: (
        torch.linalg.vector_norm(h, -float("inf"), 1) + torch.linalg.vector_norm(h, 0) + h[:, 0]
    ),
    lambda h: sum(torch.var_mean(h, 1, keepdim=True)) + sum(torch.std_mean(h)) + h,
    lambda h: h.sort(1)[0] + h.sort(0, descending=True)[0] + h.topk(3, 1)[0].sum(),
    # Other looks, and numbers by their places.
    lambda h: torch.ops.aten.alias(h) + h.flip(1).roll(2, 1).roll(3).flip((0, 1)),
    lambda h: h.repeat(1, 2)[:, 3:12] + h.tile((2, 1, 1))[1] + h.repeat_interleave(2, 1)[:, 4:13],
    lambda h: square(h).diagonal(1, 2, 3).sum(2) + h.unfold(1, 3, 2).mean(2)[:, 1:2],
    lambda h: F.pixel_shuffle(h[:, :8].view(7, 4, 1, 2), 2).flatten(1),
    lambda h: F.pixel_unshuffle(h[:, :8].view(7, 1, 2, 4), 2).flatten(1),
    lambda h: h[torch.arange(7), numbered(h)] + h[numbered(h)][:, 1],
    lambda h: h[:, numbered(h)] + square(h)[:, :, numbered(h) % 2, numbered(h)][:, 0],
    lambda h: square(h)[numbered(h), :, :, -1 - numbered(h)],
    lambda h: h.index_put((numbered(h)[:3],), h[3:6] * 2),
    lambda h: h.index_put((numbered(h), numbered(h)), h[:, 0], accumulate=True),
    lambda h: h.view(7, 3, 3).index_put((numbered(h)[:2], numbered(h)[:2]), h[:2, :3]),
    assigned,
    lambda h: square(h).transpose(0, 2)[numbered(h)[:2], :, numbered(h)[:2]],
    lambda h: h.index_select(1, numbered(h)) + h.index_select(0, numbered(h))[:, :1],
    lambda h: h.index_add(1, numbered(h)[:4], h[:, 4:8], alpha=0.5),
    lambda h: h.gather(1, numbered(h)[:, None]) + h.take_along_dim(numbered(h)[:, None], 0)[0],
    lambda h: torch.zeros_like(h).scatter(1, numbered(h)[:, None], h[:, :1]) + h,
    lambda h: h.scatter(1, numbered(h)[:, None], 0.5) + (h * 2).scatter_(0, numbered(h)[None], 0.7),
    lambda h: h.scatter_add(1, numbered(h)[:, None].expand(7, 3), h[:, 3:6]),
    # Products.
    lambda h: torch.baddbmm(*[square(h)[:, 0]] * 3, beta=0.5, alpha=0.2).flatten(1),
    lambda h: h @ h[0] + h[0] @ h[1],
    lambda h: torch.einsum("bi,bj->ij", h, h),
    # Maps.
    lambda h: F.avg_pool1d(h[:, None], 2) + F.max_pool1d(h[:, None], 2),
    lambda h: F.adaptive_avg_pool1d(h[:, None], 2) + F.adaptive_max_pool1d(h[:, None], 2),
    lambda h: F.adaptive_max_pool2d(square(h), 2),
    lambda h: (
        F.interpolate(h[:, None], scale_factor=2) + F.interpolate(h[:, None], 18, mode="linear")
    ),
    lambda h: F.interpolate(square(h).expand(-1, 2, -1, -1), scale_factor=2),
    lambda h: F.interpolate(square(h).expand(-1, 2, -1, -1), scale_factor=2, mode="bilinear"),
    lambda h: F.interpolate(square(h), size=(5, 4), mode="bicubic"),
    lambda h: F.pad(square(h), (1, 2, 2, 1), mode="reflect"),
    lambda h: F.pad(square(h), (1, 2, 2, 1), mode="replicate"),
    lambda h: (
        F.pad(h[:, None], (1, 2), mode="reflect") + F.pad(h[:, None], (2, 1), mode="replicate")
    ),
    lambda h: F.channel_shuffle(h[:, :8].view(7, 4, 1, 2), 2),
    lambda h: F.fold(F.unfold(square(h), 2), (3, 3), 2),
    lambda h: F.instance_norm(square(h)),
    # Distances.
    lambda h: F.cosine_similarity(h, h * 2 + 1) + F.pairwise_distance(h, h[:1] * 2),
)


def weighted(loss):
    """The loss of three numbers that a model gives before the three weights of its classes."""
    return lambda output, y: loss(output[:, :3], y, output[0, 3:].detach())


def between_softmax(loss):
    """As `weighted`, of probabilities."""
    return weighted(lambda x, y, weight: loss(x.sigmoid(), y.sigmoid(), weight))


def losses():
    """Cases of losses, with weights and without."""

    def weighing_classes(loss, y, classes=0):
        def make():
            return Applied(
                lambda h, weight: torch.cat([h[:, :3], weight.abs().expand(len(h), -1)], 1),
                [torch.tensor([0.2, 1.0, 3.0])],
            )

        return Case(make, (7, 6), y, classes, loss=weighted(loss))

    for reduction in ("mean", "sum"):
        yield weighing_classes(
            lambda x, y, w, r=reduction: F.cross_entropy(x, y, w, ignore_index=1, reduction=r),
            (7,),
            3,
        )
        yield weighing_classes(
            lambda x, y, w, r=reduction: F.nll_loss(x.log_softmax(1), y, w, reduction=r), (7,), 3
        )
    yield weighing_classes(
        lambda x, y, w: F.cross_entropy(x, y, w, reduction="none").square().mean(), (7,), 3
    )
    yield weighing_classes(lambda x, y, w: F.cross_entropy(x, y, w, label_smoothing=0.1), (7,), 3)
    yield weighing_classes(
        lambda x, y, w: F.cross_entropy(x, y.softmax(1), w, label_smoothing=0.1), (7, 3)
    )
    yield weighing_classes(
        lambda x, y, w: F.cross_entropy(x.T.view(1, 3, 7).expand(2, -1, -1), y, w), (2, 7), 3
    )
    yield weighing_classes(
        lambda x, y, w: F.cross_entropy(
            x.view(7, 3, 1, 1).expand(-1, -1, 2, 2), y, w, ignore_index=2
        ),
        (7, 2, 2),
        3,
    )
    yield weighing_classes(
        lambda x, y, w: F.binary_cross_entropy_with_logits(x, y, w, pos_weight=w * 2), (7, 3)
    )
    yield weighing_classes(
        lambda x, y, w: F.binary_cross_entropy(x.sigmoid(), y.sigmoid(), w), (7, 3)
    )
    yield weighing_classes(lambda x, y, w: F.multi_margin_loss(x, y, 2, 0.7, w), (7,), 3)
    for loss in (
        lambda x, y: F.binary_cross_entropy(x.sigmoid(), y.sigmoid(), reduction="sum"),
        nn.PoissonNLLLoss(),
        lambda x, y: F.kl_div(x.log_softmax(1), y.softmax(1), reduction="batchmean"),
        lambda x, y: F.soft_margin_loss(x, y.sign()),
        lambda x, y: F.hinge_embedding_loss(x, y.sign()),
        lambda x, y: F.cosine_embedding_loss(x, x * 2 + 1, y[:, 0].sign()),
        lambda x, y: F.triplet_margin_loss(x, x * 2, y),
        lambda x, y: F.margin_ranking_loss(x[:, 0], x[:, 1], y[:, 0].sign()),
        lambda x, y: F.multilabel_soft_margin_loss(x, y.sigmoid()),
        lambda x, y: F.multi_margin_loss(x, (y[:, 0] > 0).long()),
    ):
        yield Case(lambda: nn.Linear(6, 3), (7, 6), (7, 3), loss=loss)


class Pictures(nn.Module):
    """Bytes, as images are kept."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(x.float() / 255) if not x.dtype.is_floating_point else self.last(x)


class Bags(nn.Module):
    """Sums and means of rows."""

    def __init__(self):
        super().__init__()
        self.sums = nn.EmbeddingBag(11, 3, mode="sum", padding_idx=2)
        self.means = nn.EmbeddingBag(11, 3, mode="mean", padding_idx=4)
        self.all = nn.EmbeddingBag(11, 3)

    def forward(self, x):
        return self.sums(x) + self.means(x) + self.all(x)


def zoo(name):
    """The case of a model in the style of a real one."""
    make, loss, x, y = ZOO[name]()
    return Case(
        make,
        (7, *x.shape[1:]),
        (7, *y.shape[1:]),
        0 if y.is_floating_point() else int(y.max()) + 1,
        0 if x.is_floating_point() else int(x.max()) + 1,
        ProbabilityLoss(loss()) if name == "vae" else loss(),
    )


class ProbabilityLoss(nn.Module):
    """Of targets from 0 to 1."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, output, y):
        return self.inner(output, y.sigmoid())


def old_weight_norm():
    """The older of torch's two, of a matrix and of its columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = nn.utils.weight_norm(nn.Linear(6, 9))
        return nn.Sequential(first, nn.utils.weight_norm(nn.Linear(9, 3), dim=1))


def cases():
    """Steps over all rules."""
    yield from earlier_cases()
    yield from map(applied, FUNCTIONS)
    yield from losses()
    yield Case(Pictures, (7, 6), (7,), 3, 256, nn.CrossEntropyLoss(), torch.uint8)
    yield Case(Bags, (7, 5), (7,), 3, 11, nn.CrossEntropyLoss())
    yield Case(old_weight_norm, (7, 6), (7, 3))
    yield from map(zoo, ZOO)


def earlier_cases():
    for place, activation in enumerate(ACTIVATIONS):
        for shape in (SHAPES[place % 5], SHAPES[(place + 1) % 5]):
            yield from learnt(lambda a=activation, s=shape: model_of(a, *s[:3]), shape)
    for kind in (Turned, InTwo):
        for shape in SHAPES:
            yield from learnt(
                lambda k=kind, s=shape: nn.Sequential(k(s[0]), nn.Tanh(), nn.Linear(s[0], s[2])),
                shape,
            )
    yield dense(lambda: nn.BatchNorm1d(9), nn.ReLU, lambda: nn.Dropout(0.3))
    yield dense(lambda: nn.BatchNorm1d(9, affine=False, momentum=0.3), nn.Tanh, size=5)
    yield dense(lambda: nn.BatchNorm1d(9, track_running_stats=False))
    yield dense(lambda: nn.AlphaDropout(0.2), lambda: nn.RMSNorm(9, eps=1e-6))
    yield dense(lambda: nn.LayerNorm(9), nn.GELU, lambda: nn.LayerNorm(9, bias=False), size=17)
    yield dense(lambda: nn.LayerNorm(9, elementwise_affine=False), label_smoothing=0.1)
    for kind in (Noisy, Counts, Parts, Arithmetic, Recurrent):
        yield dense(kind, size=7)
    yield Case(
        lambda: nn.Sequential(Frozen(), nn.Linear(9, 3)),
        (7, 6),
        (7,),
        3,
        loss=nn.CrossEntropyLoss(),
    )
    for loss in (
        nn.L1Loss(),
        nn.SmoothL1Loss(beta=0.5),
        nn.HuberLoss(reduction="sum", delta=0.7),
        nn.BCEWithLogitsLoss(),
        nn.CrossEntropyLoss(reduction="sum"),
        nn.CrossEntropyLoss(),
    ):
        yield Case(lambda: nn.Linear(6, 3), (7, 6), (7, 3), loss=loss)
    # The parts of cross entropy, each without the other or with somebody who looks between them.
    yield Case(lambda: nn.Linear(6, 3), (7, 6), (7,), 3, loss=nn.NLLLoss())
    yield Case(lambda: nn.Conv2d(6, 3, 1), (7, 6, 2, 3), (7, 2, 3), 3, loss=nn.NLLLoss())
    yield Case(lambda: nn.Linear(6, 3), (7, 6), (7,), 3, loss=weighing)
    yield Case(lambda: nn.Linear(6, 3), (7, 6), (7,), 3, loss=halving)
    yield Case(lambda: nn.Sequential(nn.Linear(6, 3), nn.LogSoftmax(1)), (7, 6), (7, 3))
    yield Case(lambda: nn.Linear(6, 3), (7, 6), (7,), 3, loss=looking_between)
    yield Case(lambda: nn.Linear(6, 3), (7, 6), (7,), 3, loss=leaving_out)
    watched = nn.NLLLoss()
    yield Case(lambda: nn.Sequential(nn.Linear(6, 3), Watching()), (7, 6), (7,), 3, loss=watched)
    for how in ("plain", "lean", "causal", "upper", "lower"):
        yield rows(lambda how=how: Attending(how))
    yield rows(block(norm_first=False, dropout=0.1))
    yield rows(block(norm_first=True, dropout=0.0), size=16)
    for how in ("layer", "heads", "words"):
        yield with_padding(how)
    yield from convolutional()


CASES = list(cases())


def keys_of(numbers):
    return step_keys([number * 77 for number in numbers], 5, 1)[0]


def stacked(replicas, numbers):
    states = [state_of(model) for model, _, _ in replicas]
    state = [torch.stack([v.detach() for v in column]) for column in zip(*states, strict=True)]
    samples = [torch.stack([replica[part] for replica in replicas]) for part in (1, 2)]
    return [*state, *samples, keys_of(numbers)]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_replicas_bits_depend_on_neither_the_size_of_the_pack_nor_its_place(case):
    loss = CASES[case].loss
    random = np.random.default_rng(case)
    replicas = [CASES[case].sample(case * 1000 + number) for number in range(32)]
    trace, _, _ = record(replicas[0][0], loss, *replicas[0][1:])
    # By turns it is told which labels there are, and is not; each size both.
    labels = torch.stack([y for _, _, y in replicas])
    steps = batched(trace), batched(trace, labels)
    known = {}
    for turn, size in enumerate((*SIZES, *SIZES)):
        chosen = random.permutation(32)[:size]
        with torch.no_grad():
            found = steps[(turn + turn // len(SIZES)) % 2](
                stacked([replicas[number] for number in chosen], chosen)
            )
        for place, number in enumerate(chosen):
            bits = [value[place].numpy().tobytes() for value in found]
            assert known.setdefault(number, bits) == bits


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_batched_step_is_torchs_own_step_of_each_replica(case):
    loss = CASES[case].loss
    replicas = [CASES[case].sample(case * 1000 + number) for number in range(3)]
    double = [
        (model.double(), *(v.double() if v.is_floating_point() else v for v in batch))
        for model, *batch in replicas
    ]
    with InDouble():
        assert_torchs_own(loss, double)


def assert_torchs_own(loss, double):
    trace, _, _ = record(double[0][0], loss, *double[0][1:])
    with torch.no_grad():
        losses, *found = batched(trace)(stacked(double, range(3)))
    for place, (model, x, y) in enumerate(double):
        with RandomNumbers(keys_of([place])):
            value = loss(model(x), y)
            gradients = torch.autograd.grad(value, trained(model))
        torch.testing.assert_close(losses[place], value.detach(), rtol=1e-10, atol=1e-12)
        for one, other in zip(found, [*gradients, *held(model)], strict=True):
            torch.testing.assert_close(one[place], other, rtol=1e-10, atol=1e-12)


def test_every_rule_is_in_some_case():
    seen = set()
    for case in CASES:
        model, x, y = case.sample(0)
        trace, _, _ = record(model, case.loss, x, y)
        seen |= {operation.name for operation in operations_of(trace)}
    assert not set(RULES) - seen


def test_recording_leaves_a_model_and_the_generators_as_they_were():
    model, x, y = CASES[-len(ZOO)].sample(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    record(model, nn.CrossEntropyLoss(), x, y)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_what_is_drawn_is_even_and_has_no_pattern():
    keys = step_keys(range(40), 0, 2).reshape(-1)
    for p in (0.5, 0.9):
        drawn = torch.cat([bernoulli(keys, draw, torch.empty(80, 1000), p) for draw in range(3)])
        each = (drawn - p) / (p * (1 - p)) ** 0.5
        pairs = [each.mean(), each.mean(0), each.mean(1)]
        pairs += [(each[:, :-step] * each[:, step:]).mean() for step in (1, 2, 3, 64)]
        pairs += [(each[:-step] * each[step:]).mean() for step in (1, 40, 80)]
        for found, count in zip(pairs, [240_000, 240, 1000, *[240_000] * 7], strict=True):
            assert float(found.abs().max()) < 5 / count**0.5


def test_normal_numbers_are_normally_distributed_and_have_no_pattern():
    keys = step_keys(range(40), 0, 2).reshape(-1)
    drawn = torch.stack([normal(keys, draw, torch.empty(80, 1000)) for draw in range(3)]).double()
    count = drawn.numel()
    assert torch.isfinite(drawn).all()
    # Moments, whose estimates have these variances; then neighbours of all kinds.
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((drawn**power).mean()) - expected) < 5 * (variance / count) ** 0.5
    pairs = [(drawn[..., :-step] * drawn[..., step:]).mean() for step in (1, 2, 3, 64)]
    pairs += [(drawn[:, :-step] * drawn[:, step:]).mean() for step in (1, 40)]
    pairs += [(drawn[0] * drawn[1]).mean(), (drawn[0] * drawn[2]).mean()]
    assert float(torch.stack(pairs).abs().max()) < 5 / (count / 3) ** 0.5
    found = torch.special.ndtr(drawn.flatten().sort()[0])
    even = torch.arange(1, count + 1, dtype=torch.float64) / count
    assert float((found - even).abs().max()) < 2.0 / count**0.5


def test_other_draws_have_their_distributions():
    keys, like = step_keys(range(40), 0, 1)[0], torch.empty(40, 1000)
    drawn = exponential(keys, 0, like, 2.0)
    assert float(drawn.min()) > 0
    assert float(drawn.mean()) == pytest.approx(0.5, rel=0.05)
    assert float(drawn.std()) == pytest.approx(0.5, rel=0.05)
    spread = between(keys, 0, like, -1.0, 3.0)
    assert (float(spread.min()), float(spread.max())) == pytest.approx((-1, 3), abs=0.01)
    whole = RANDOM_RULES["aten.randint.low"](keys, 0, 2, 5, (1000,))
    np.testing.assert_allclose(whole.flatten().bincount() / 40_000, [0, 0, *[1 / 3] * 3], atol=0.01)
    order = RANDOM_RULES["aten.randperm.default"](keys, 0, 50)
    assert torch.equal(order.sort(1)[0], torch.arange(50).expand(40, -1))
    assert len({tuple(row.tolist()) for row in order}) == 40
    kept = RANDOM_RULES["aten.bernoulli.default"](keys, 0, torch.full_like(like, 0.3))
    assert float(kept.mean()) == pytest.approx(0.3, abs=0.01)


OPTIMIZERS = {
    "sgd": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"momentum": 0.5, "dampening": 0.25, "weight_decay": 0.01},
        {"momentum": 0.5, "maximize": True, "weight_decay": 0.01},
    ],
    "adam": [
        {},
        {"weight_decay": 0.1, "betas": (0.8, 0.9)},
        {"amsgrad": True, "betas": (0.5, 0.5)},
        {"maximize": True, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
    "adamw": [{}, {"weight_decay": 0.3, "eps": 1e-3}, {"amsgrad": True, "maximize": True}],
    "nadam": [{}, {"weight_decay": 0.1, "maximize": True}, {"decoupled_weight_decay": True}],
    "radam": [
        {},
        {"weight_decay": 0.1, "betas": (0.5, 0.9)},
        {"betas": (0.5, 0.6), "decoupled_weight_decay": True},
    ],
    "adamax": [{}, {"weight_decay": 0.1, "maximize": True}],
    "rmsprop": [
        {},
        {"alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.5, "centered": True},
        {"momentum": 0.9, "maximize": True},
        {"centered": True},
    ],
    "adadelta": [{}, {"rho": 0.5, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}],
    "adagrad": [{}, {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2}],
}
NAMED = [(name, options) for name, each in OPTIMIZERS.items() for options in each]


def test_every_optimiser_with_a_formula_is_in_some_case():
    assert OPTIMIZERS.keys() == FORMULAS.keys()


SHAPED = [(3, 5), (7,), (1,)]
RATES = [0.1, 0.3, 0.01, 0.2, 0.1, 0.4, 0.3]


def updated(recipe, starts, gradients, chosen, dtype=torch.float32):
    """Stacked parameters after as many steps as there are rates."""
    parameters = [start[chosen].to(dtype).clone() for start in starts]
    update = make_stacked(recipe, parameters)
    for step, rate in zip(gradients, RATES, strict=True):
        update([gradient[chosen].to(dtype) for gradient in step], rate)
    return parameters


def assert_torchs_and_a_replicas_own(recipe, make, clipping=None):
    """`make` gives torch's optimiser of a list of parameters."""
    torch.manual_seed(0)
    starts = [torch.randn(32, *shape) for shape in SHAPED]
    gradients = [[torch.randn(32, *shape) for shape in SHAPED] for _ in RATES]
    whole = updated(recipe, starts, gradients, list(range(32)))
    for size in SIZES:
        chosen = np.random.default_rng(size).permutation(32)[:size].tolist()
        found = updated(recipe, starts, gradients, chosen)
        for one, other in zip(found, whole, strict=True):
            assert one.numpy().tobytes() == other[chosen].numpy().tobytes()
    own = nn.ParameterList([nn.Parameter(start[4].double()) for start in starts])
    optimizer = make(own)
    for step, rate in zip(gradients, RATES, strict=True):
        set_rate(optimizer, rate)
        for parameter, gradient in zip(own, step, strict=True):
            parameter.grad = gradient[4].double()
        if clipping is not None:
            clipping.apply(optimizer)
        optimizer.step()
    found = updated(recipe, starts, gradients, [4, 4], torch.float64)
    for one, other in zip(found, own, strict=True):
        torch.testing.assert_close(one[0], other.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("name", "options"), NAMED)
def test_stacked_optimisers_are_torchs_and_their_bits_a_replicas_own(name, options):
    given = {"name": name, **options}
    assert_torchs_and_a_replicas_own(
        Recipe.of(name, options), lambda own: make_optimizer(given, own, 0.1)
    )


def test_groups_have_options_and_rates_of_their_own():
    groups = lambda own: [  # noqa: E731
        {"params": [own[2], own[0]], "weight_decay": 0.3, "amsgrad": True},
        {"params": own[1], "lr_scale": 0.25, "betas": (0.5, 0.9)},
    ]
    given = {"name": "adamw", "eps": 1e-3, "groups": groups}
    own = nn.ParameterList([nn.Parameter(torch.zeros(shape)) for shape in SHAPED])
    recipe = recipe_of(given, Clipping(), own)
    assert [group.parameters for group in recipe.groups] == [(2, 0), (1,)]
    assert_torchs_and_a_replicas_own(recipe, lambda own: make_optimizer(given, own, 0.1))


@pytest.mark.parametrize("clipping", [Clipping(norm=0.7), Clipping(norm=50.0), Clipping(value=0.1)])
def test_gradients_are_clipped_as_torch_clips_them_each_replicas_alone(clipping):
    recipe = replace(Recipe.of("sgd", {"momentum": 0.9}), clipping=clipping)
    make = lambda own: make_optimizer({"name": "sgd", "momentum": 0.9}, own, 0.1)  # noqa: E731
    assert_torchs_and_a_replicas_own(recipe, make, clipping)


@pytest.mark.parametrize(("name", "options"), NAMED)
def test_each_replica_may_have_a_rate_of_its_own(name, options):
    torch.manual_seed(0)
    start = [torch.randn(3, 4, 5), torch.randn(3, 5)]
    gradients = [[torch.randn_like(p) for p in start] for _ in range(3)]

    def trained(rate):
        parameters = [p.clone() for p in start]
        update = make_stacked(Recipe.of(name, options), parameters)
        for step in gradients:
            update(step, rate)
        return parameters

    together = trained([0.1, 0.2, 0.3])
    for place, rate in enumerate((0.1, 0.2, 0.3)):
        for one, other in zip(together, trained(rate), strict=True):
            assert one[place].numpy().tobytes() == other[place].numpy().tobytes()


def test_an_optimiser_or_an_option_without_a_stacked_formula_is_refused():
    for option in ({"unheard": True}, {"betas": torch.zeros(2)}):
        with pytest.raises(CannotPackError, match="adam with"):
            make_stacked(Recipe.of("adam", option), [])
    with pytest.raises(CannotPackError, match="its optimiser, rprop, has no packed form"):
        make_stacked(Recipe.of("rprop", {}), [])


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 0.5])], ids=["plain", "weighted"])
def test_a_batch_of_which_nothing_counts_has_no_gradient_as_with_torch(weight):
    torch.manual_seed(0)
    model, loss = nn.Linear(4, 3), nn.CrossEntropyLoss(weight=weight, ignore_index=-100)
    x, y = torch.randn(2, 5, 4), torch.tensor([[-100] * 5, [0, 1, -100, 2, 0]])
    trace, _, _ = record(model, loss, x[1], y[1])
    stacked = [torch.stack([value.detach()] * 2) for value in state_of(model, loss)]
    _, *gradients = batched(trace, None)([*stacked, x, y, torch.zeros(2, dtype=torch.int64)])
    for place in (0, 1):
        expected = torch.autograd.grad(loss(model(x[place]), y[place]), trained(model))
        for found, wanted in zip(gradients, expected, strict=False):
            torch.testing.assert_close(found[place], wanted)
