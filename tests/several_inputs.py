"""A problem with two inputs, as a tuple or a dict, taken together or one by one."""

import torch
from torch import nn
from torch.utils.data import Dataset

name = "several_inputs"
accuracy_style = "classification"
loss = nn.CrossEntropyLoss
kind = "tuple"

_generator = torch.Generator().manual_seed(0)
A = torch.randn(150, 4, generator=_generator)
B = torch.randn(150, 3, generator=_generator)
Y = (A[:, 0] + B[:, 0] > 0).long()


class Pairs(Dataset):
    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last

    def __len__(self):
        return self.last - self.first

    def __getitem__(self, place):
        a, b = A[self.first + place], B[self.first + place]
        return ({"a": a, "b": b} if kind == "dict" else (a, b)), Y[self.first + place]


def dataset():
    return Pairs(0, 100), Pairs(100, 150)


class Two(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, hidden), nn.Linear(3, hidden)
        self.out = nn.Linear(hidden, 2)

    def forward(self, a, b):
        return self.out(torch.tanh(self.a(a) + self.b(b)))


class Pair(Two):
    def forward(self, pair):
        return super().forward(*pair)


def model(hidden: int = 4) -> nn.Module:
    return Pair(hidden) if kind == "pair" else Two(hidden)
