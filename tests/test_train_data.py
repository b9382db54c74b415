"""A problem's data, held or loaded: the same batches, bit for bit."""

from __future__ import annotations

import collections.abc
import copy
import dataclasses
import datetime as dt
import enum
import hashlib
import itertools
import math
import os
import signal
import subprocess
import sys
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from sweeper.code.importing import ModuleRef
from sweeper.disk.files import nameless_file
from sweeper.errors import ProblemError
from sweeper.train.data import reading as data_module
from sweeper.train.data.checksum import Checksum
from sweeper.train.data.samples import Data, HeldSet, LoadedSet, endless, in_order, shuffled
from sweeper.train.data.sharing import open_data, read_data
from sweeper.train.problem.problem import Problem
from sweeper.train.problem.spec import DataRef

BIG = 10**9
"""A budget that everything here fits in."""


def read(problem: Problem, seed: int, budget: float | None = None) -> tuple[DataRef, int]:
    """What is known of the data, and the file that it is in, which is the caller's to close."""
    fd = nameless_file()
    try:
        return read_data(problem, seed, fd, budget), fd
    except BaseException:
        os.close(fd)
        raise


def problem_of(dataset: Any) -> Problem:
    module = ModuleType("toy")
    module.model = nn.Linear  # type: ignore[attr-defined]
    module.loss = nn.MSELoss  # type: ignore[attr-defined]
    module.accuracy_style = "inv-loss"  # type: ignore[attr-defined]
    module.dataset = dataset  # type: ignore[attr-defined]
    return Problem(ModuleRef("toy", "toy"), module)


def opened(problem: Problem, budget: float = BIG, seed: int = 0) -> tuple[Any, Data]:
    ref, fd = read(problem, seed, budget)
    try:
        return ref, open_data(problem, ref, fd)
    finally:
        os.close(fd)  # the map outlives it


class Items(Dataset[Any]):
    """Whatever `item` gives, by index."""

    def __init__(self, count, item):
        self.count, self.item = count, item

    def __len__(self):
        return self.count

    def __getitem__(self, place):
        if not 0 <= place < self.count:
            raise IndexError(place)
        return self.item(place)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    return one.dtype == other.dtype and one.shape == other.shape and bool(torch.equal(one, other))


def batches_of(samples, seed=1):
    """Batches as a training would draw them, and all samples in order as an evaluation would."""
    drawn = shuffled(len(samples), 7, np.random.default_rng(seed))
    run = endless(len(samples), [3, 5, 11, 40], np.random.default_rng(seed))
    return [
        *samples.batches(drawn),
        *samples.batches(run),
        *samples.batches(in_order(len(samples))),
    ]


X = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 3)))

KINDS = {
    "class index": lambda place: place % 4,
    "class index, a tensor": lambda place: torch.tensor(place % 4),
    "one-hot": lambda place: nn.functional.one_hot(torch.tensor(place % 4), 4),
    "multi-hot": lambda place: torch.tensor([place % 2, place % 3 == 0, 1.0]),
    "real": lambda place: X[place, 0] / 3,
    "real, a float": lambda place: float(X[place, 0]) / 3,
    "real, of numpy": lambda place: np.float32(X[place, 0]),
    "bool": lambda place: torch.tensor([place % 2 == 0]),
    "half": lambda place: X[place].to(torch.bfloat16),
}


# -- held or loaded -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_held_and_loaded_give_the_same_batches(kind, dtype):
    def dataset():
        items = Items(50, lambda place: (X[place].to(dtype), KINDS[kind](place)))
        return items, Subset(items, range(10))

    problem = problem_of(dataset)
    held_ref, held = opened(problem)
    loaded_ref, loaded = opened(problem, budget=0)
    assert isinstance(held.train, HeldSet)
    assert isinstance(loaded.train, LoadedSet)
    assert (held_ref.n_train, held_ref.n_val) == (loaded_ref.n_train, loaded_ref.n_val) == (50, 10)
    for one, other in ((held.train, loaded.train), (held.val, loaded.val)):
        assert len(one) == len(other)
        assert same(batches_of(one), batches_of(other))


def test_a_large_set_is_read_in_pieces(monkeypatch):
    monkeypatch.setattr(data_module, "_READ_AT_ONCE", 16)

    def dataset():
        return TensorDataset(X, X[:, 0]), TensorDataset(X[:5], X[:5, 0])

    _, data = opened(problem_of(dataset))
    assert torch.equal(data.train.x, X)
    assert torch.equal(data.val.y, X[:5, 0])


def test_the_note_says_that_it_is_held():
    ref, _ = opened(problem_of(lambda: (TensorDataset(X, X), TensorDataset(X, X))))
    assert ref.note.startswith("data: held in memory (0.0 MiB, one copy for all workers)")


@pytest.mark.parametrize("source", ["torch", "numpy", "random", "itself"])
def test_data_that_is_random_on_access_is_loaded_and_says_so(source):
    import random

    def dataset():
        own = np.random.default_rng(0)
        draw = {
            "torch": lambda: torch.rand(()),
            "numpy": np.random.random,
            "random": random.random,
            "itself": own.random,
        }[source]
        return Items(9, lambda place: (X[place] + draw(), 0)), TensorDataset(X, X)

    ref, data = opened(problem_of(dataset))
    assert isinstance(data.train, LoadedSet)
    assert isinstance(data.val, LoadedSet)
    assert ref.note.startswith("data: loaded as it goes, because reading it twice")
    assert ref.layouts == ()


def test_data_over_the_budget_is_loaded_and_says_so():
    x = torch.zeros(1000, 1000)
    problem = problem_of(lambda: (TensorDataset(x, x[:, 0]), TensorDataset(x[:1], x[:1, 0])))
    ref, data = opened(problem, budget=2 * 2**20)
    assert isinstance(data.train, LoadedSet)
    assert ref.note == ("data: loaded as it goes, because it takes 4 MiB and 2 MiB may be held")


@pytest.mark.parametrize(
    "x_of",
    [
        lambda place: {"left": X[place], "right": X[place, 0]},
        lambda place: (X[place], X[place, :2]),
    ],
)
def test_an_x_of_several_tensors_goes_through_the_loader(x_of):
    def dataset():
        return (Items(count, lambda place: (x_of(place), place)) for count in (20, 5))

    ref, data = opened(problem_of(lambda: tuple(dataset())))
    assert isinstance(data.train, LoadedSet)
    assert "its x or y is not a tensor" in ref.note
    (batch, y) = next(iter(data.train.batches([np.array([3, 1])])))
    assert y.tolist() == [3, 1]
    values = batch.values() if isinstance(batch, dict) else batch
    expected = x_of(3).values() if isinstance(batch, dict) else x_of(3)
    assert all(torch.equal(value[0], one) for value, one in zip(values, expected, strict=True))


def test_loading_does_not_draw_from_the_models_stream():
    data = LoadedSet(TensorDataset(X, X))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(data.batches(in_order(50, 5)))
    assert torch.equal(before, torch.get_rng_state())


def test_reading_leaves_the_global_generators_as_they_were():
    def dataset():
        noise = torch.rand(20, 2)
        return Items(20, lambda place: (noise[place] + torch.rand(2), 0)), TensorDataset(X, X)

    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the global generator is what this is about
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002 - as above
    read(problem_of(dataset), 0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002 - as above


@pytest.mark.parametrize("budget", [BIG, 0])
def test_the_dataset_is_made_under_the_sweeps_seed_alone(budget):
    def dataset():
        noise = torch.rand(20, 2) + float(np.random.random())  # noqa: NPY002 - as users do
        return TensorDataset(noise, noise), TensorDataset(noise, noise)

    def batches(seed, before):
        torch.manual_seed(before)
        return batches_of(opened(problem_of(dataset), budget, seed)[1].train)

    assert same(batches(0, 1), batches(0, 2))
    assert not same(batches(0, 1), batches(1, 1))


# -- the checksum ---------------------------------------------------------------------------------


def sha256(x, y, *, x_val=None, budget=BIG, seed=0):
    val = x if x_val is None else x_val
    problem = problem_of(lambda: (TensorDataset(x, y), TensorDataset(val, y[: len(val)])))
    ref, fd = read(problem, seed, budget)
    os.close(fd)
    return ref.sha256


Y = torch.arange(50)


@pytest.mark.parametrize("budget", [BIG, 0])
def test_the_checksum_changes_with_the_data(budget):
    other_x, other_y = X.clone(), Y.clone()
    other_x[49, 2] += 1e-12
    other_y[20] += 1
    found = [
        sha256(X, Y, budget=budget),
        sha256(other_x, Y, x_val=X, budget=budget),
        sha256(X, Y, x_val=other_x, budget=budget),
        sha256(X, other_y, budget=budget),
        sha256(X.float(), Y, budget=budget),
        sha256(X, Y.int(), budget=budget),
        sha256(X.flip(0), Y, budget=budget),
        sha256(X[:49], Y[:49], budget=budget),
        sha256(X.reshape(50, 1, 3), Y, budget=budget),
        sha256(X, Y, x_val=X[:49], budget=budget),
    ]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("budget", [BIG, 0])
def test_the_checksum_changes_with_nothing_else(budget):
    def again():
        torch.manual_seed(0)
        return sha256(X.clone(), Y.clone(), budget=budget, seed=5)

    assert again() == again() == sha256(X, Y, budget=BIG)


@pytest.mark.parametrize("checked", ["whole", "sampled"])
def test_the_checksum_does_not_depend_on_the_memory_at_hand(monkeypatch, checked):
    if checked == "sampled":
        monkeypatch.setattr(data_module, "CHECKSUM_BYTES", 0)
        monkeypatch.setattr(data_module, "CHECKSUM_SAMPLES", 11)
    assert sha256(X, Y, budget=BIG) == sha256(X, Y, budget=0)


def test_the_checksum_of_data_that_is_random_on_access_is_the_same_each_time():
    def dataset():
        return Items(30, lambda place: (X[place] + torch.rand(3), 0)), TensorDataset(X, Y)

    found = {opened(problem_of(dataset), budget)[0].sha256 for budget in (BIG, BIG, 0)}
    assert len(found) == 1


# -- samples that are not tensors alone -----------------------------------------------------------


class Kind(enum.Enum):
    A, B = 1, 2


@dataclasses.dataclass
class Sample:
    x: Any
    kind: Kind = Kind.A


class Named(NamedTuple):
    x: Any
    extra: Any


class Renamed(NamedTuple):
    x: Any
    other: Any


class Table(collections.abc.Mapping):
    """A mapping that is no dict."""

    def __init__(self, pairs):
        self.pairs = dict(pairs)

    def __getitem__(self, key):
        return self.pairs[key]

    def __iter__(self):
        return iter(self.pairs)

    def __len__(self):
        return len(self.pairs)


T = torch.ones(2)
TOLD_APART = {
    "text": ("good", "bad"),
    "text in a list": (["good", "fine"], ["good", "poor"]),
    "where texts are cut": (["ab", "c"], ["a", "bc"]),
    "nesting": ([["a"], "b"], ["a", ["b"]]),
    "bytes": (b"good", b"bad"),
    "text or bytes": ("good", b"good"),
    "None": (None, "None"),
    "a number": (1, 2),
    "a number's type": (1, 1.0),
    "a bool": (True, False),
    "a float's last bit": (0.1, math.nextafter(0.1, 1)),
    "a number of numpy": (np.float32(1), np.float64(1)),
    "an array": (np.array([1, 2]), np.array([[1, 2]])),
    "an array of texts": (np.array(["a", "b"]), np.array(["a", "c"])),
    "an array of objects": (np.array(["a", None], object), np.array(["b", None], object)),
    "a value of a dict": ({"a": "x"}, {"a": "y"}),
    "a key of a dict": ({"a": T}, {"b": T}),
    "keys of several types": ({"a": 1, 1: 2}, {"a": 1, 1: 3}),
    "a mapping that is no dict": (Table({"a": T}), Table({"a": T + 1})),
    "a dataclass": (Sample("x"), Sample("y")),
    "a tensor in a dataclass": (Sample(T), Sample(T + 1)),
    "an enum": (Sample("x", Kind.A), Sample("x", Kind.B)),
    "a named tuple": (Named(T, "x"), Named(T, "y")),
    "a named tuple's names": (Named(T, T), Renamed(T, T)),
    "a set": ({"x", "y"}, {"x", "z"}),
    "a date": (dt.date(2024, 1, 1), dt.date(2024, 1, 2)),
}


def checksum_of(*batches):
    checksum = Checksum()
    for batch in batches:
        checksum.add(batch)
    return checksum


@pytest.mark.parametrize("what", TOLD_APART)
def test_whatever_samples_hold_is_in_the_checksum(what):
    one, other = TOLD_APART[what]
    found = checksum_of([T, one])
    assert found.sha256 == checksum_of([T, copy.deepcopy(one)]).sha256
    assert found.sha256 != checksum_of([T, other]).sha256
    assert not found.unknown


def test_the_order_in_which_sets_and_mappings_were_filled_is_not_in_the_checksum():
    one, other = {"x": 1, "y": T}, {"y": T, "x": 1}
    assert checksum_of(one).sha256 == checksum_of(other).sha256
    assert checksum_of({*"abcdefgh"}).sha256 == checksum_of({*"hgfedcba"}).sha256


def as_earlier(x, y):
    """The checksum of two equal sets as earlier releases made it of the tensors in them."""
    digest = hashlib.sha256()
    for _ in range(2):
        digest.update(f"{len(y)} samples".encode())
        for tensor in [*x, y]:
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("x", "tensors"),
    [
        (lambda place: X[place], [X]),
        (lambda place: (X[place], [X[place] + 1]), [X, X + 1]),
        (lambda place: float(X[place, 0]), [X[:, 0]]),
        (lambda place: np.float32(X[place, 0]), [X[:, 0].float()]),
    ],
    ids=["a tensor", "tensors", "a float", "of numpy"],
)
def test_the_checksum_of_tensors_alone_is_that_of_earlier_releases(x, tensors):
    items = Items(50, lambda place: (x(place), place))
    ref, _ = opened(problem_of(lambda: (items, items)))
    assert ref.sha256 == as_earlier(tensors, Y)
    assert ref.earlier_sha256 == ""


@pytest.mark.parametrize(
    ("x", "tensors"),
    [
        (lambda place: f"text {place}", []),
        (lambda place: {"b": X[place] + 1, "a": X[place]}, [X, X + 1]),
        (lambda place: Table({"a": X[place]}), []),
        (lambda place: Named(X[place], "x"), [X]),
    ],
    ids=["text", "a dict", "another mapping", "a named tuple"],
)
def test_the_checksum_of_earlier_releases_is_known_where_there_is_more(x, tensors):
    items = Items(50, lambda place: (x(place), place))
    ref, _ = opened(problem_of(lambda: (items, items)))
    assert ref.earlier_sha256 == as_earlier(tensors, Y)
    assert ref.sha256 != ref.earlier_sha256


def test_data_that_no_seed_governs_is_refused():
    """What a training is given would depend on those before it in its process."""
    of_the_module = np.random.default_rng(0)

    class Noisy(list):
        def __getitem__(self, place):
            x, y = super().__getitem__(place)
            return x + of_the_module.normal(), y

    items = [(torch.ones(2), 0), (torch.zeros(2), 1)] * 4
    with pytest.raises(ProblemError, match="made and read twice under one seed"):
        opened(problem_of(lambda: (Noisy(items), Noisy(items))))


@pytest.mark.parametrize("drawn_from", ["its own generator", "the global one"])
@pytest.mark.parametrize("kind", [str, lambda n: {"a": str(n)}, lambda n: Table({"a": [n]})])
def test_text_that_is_random_on_access_is_noticed(kind, drawn_from):
    def dataset():
        own = np.random.default_rng(0)
        draw = own.integers if drawn_from == "its own generator" else np.random.randint
        items = Items(30, lambda place: (kind(draw(1000)), place))
        return items, items

    def steady():
        items = Items(30, lambda place: (kind(place), place))
        return items, items

    found = [opened(problem_of(dataset))[0] for _ in range(2)]
    assert all(ref.remade for ref in found)
    assert found[0].sha256 == found[1].sha256
    assert not opened(problem_of(steady))[0].remade


def test_what_nobody_can_look_into_is_said_and_made_anew(monkeypatch):
    class Opaque:
        pass

    collate = torch.utils.data._utils.collate.default_collate_fn_map
    monkeypatch.setitem(collate, Opaque, lambda batch, **_: batch)
    items = Items(30, lambda place: (Opaque(), place))
    ref, _ = opened(problem_of(lambda: (items, items)))
    assert "not checked for changes and randomness, because samples hold a Opaque" in ref.note
    assert ref.remade
    assert "not checked" not in opened(problem_of(lambda: (TensorDataset(X, Y),) * 2))[0].note


# -- the shared map -------------------------------------------------------------------------------

WRITE = """
import sys
sys.path.insert(0, {tests!r})
from test_train_data import X, TensorDataset, opened, problem_of
_, data = opened(problem_of(lambda: (TensorDataset(X, X), TensorDataset(X, X))))
chosen, _ = next(iter(data.train.batches([__import__("numpy").arange(3)])))
chosen += 1  # what a batch is, is the training's own
print("read", float(data.train.x[0, 0]) == float(X[0, 0]), flush=True)
data.train.x[0, 0] = 1.0
print("written")
"""


def test_the_shared_map_is_read_only(request):
    root = request.config.rootpath
    run = subprocess.run(
        [sys.executable, "-c", WRITE.format(tests=str(root / "tests"))],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "read True\n"
    assert run.returncode == -signal.SIGSEGV


def test_every_worker_sees_one_copy():
    problem = problem_of(lambda: (TensorDataset(X, Y), TensorDataset(X[:2], Y[:2])))
    ref, fd = read(problem, 0)
    one, other = open_data(problem, ref, fd), open_data(problem, ref, fd)
    os.pwrite(fd, torch.tensor([42.0], dtype=X.dtype).numpy().tobytes(), ref.layouts[0].offset)
    os.close(fd)
    assert float(one.train.x[0, 0]) == float(other.train.x[0, 0]) == 42
    assert torch.equal(one.train.x[1:], X[1:])


# -- faults ---------------------------------------------------------------------------------------


def refuse(place):
    raise OSError(f"no file {place}")


def readable_below_9(place):
    return (torch.zeros(2), 0) if place < 9 else refuse(place)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (lambda: 1 / 0, r"toy.*dataset\(\).*ZeroDivisionError"),
        (
            lambda: (Items(3, refuse), Items(3, refuse)),
            r"toy.*: train_set\[0\] of dataset\(\) is .*: OSError: no file 0",
        ),
        (
            lambda: (
                TensorDataset(X, Y),
                Items(2000, lambda at: (X[0], 0) if at < 9 else refuse(at)),
            ),
            r"toy.*: val_set\[9\] of dataset\(\) is not readable: OSError: no file 9",
        ),
        (
            lambda: (Items(3, lambda place: (torch.zeros(place), 0)), TensorDataset(X, Y)),
            r"toy.*train_set\[1\] of dataset\(\) is not readable.*default_collate",
        ),
        (
            lambda: (Items(3, lambda _: (object(), 0)), TensorDataset(X, Y)),
            r"toy.*a sample of dataset\(\) is not readable.*default_collate",
        ),
    ],
)
def test_data_that_cannot_be_read_is_a_fault_of_the_problem(dataset, message):
    with pytest.raises(ProblemError, match=message):
        read(problem_of(dataset), 0)


def test_a_sample_that_cannot_be_read_while_it_is_trained_on_is_named():
    loaded = LoadedSet(Items(20, readable_below_9), "val_set")
    batches = loaded.batches([np.arange(4), np.array([7, 9, 12])])
    next(batches)
    with pytest.raises(OSError, match="no file 9") as raised:
        next(batches)
    assert raised.value.__notes__ == ["reading val_set[9]"]


def test_large_data_of_which_a_sample_cannot_be_read_is_told_which():
    problem = problem_of(lambda: (Items(20, readable_below_9), TensorDataset(X, Y)))
    with pytest.raises(ProblemError, match=r"train_set\[9\] of dataset\(\) is not readable"):
        read(problem, 0, budget=1)


# -- permutations ---------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_an_epoch_is_a_permutation_less_the_last_partial_batch(samples, batch_size, seed):
    generator = np.random.default_rng(seed)
    for _ in range(3):
        batches = [chosen.tolist() for chosen in shuffled(samples, batch_size, generator)]
        seen = list(itertools.chain(*batches))
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(samples))
        if samples < batch_size:
            assert [len(batch) for batch in batches] == [samples], "the only one is kept"
        else:
            assert [len(batch) for batch in batches] == [batch_size] * (samples // batch_size)


def test_every_epoch_is_another_permutation():
    generator = np.random.default_rng(0)
    epochs = [tuple(np.concatenate(list(shuffled(30, 10, generator)))) for _ in range(5)]
    assert len(set(epochs)) == 5


@given(st.integers(1, 20), st.lists(st.integers(1, 50), max_size=8), st.integers(0, 2**32 - 1))
def test_endless_goes_through_one_permutation_after_the_other(samples, sizes, seed):
    batches = list(endless(samples, sizes, np.random.default_rng(seed)))
    assert [len(batch) for batch in batches] == sizes
    drawn = [int(place) for batch in batches for place in batch]
    for start in range(0, len(drawn), samples):
        epoch = drawn[start : start + samples]
        assert len(set(epoch)) == len(epoch)
        if len(epoch) == samples:
            assert set(epoch) == set(range(samples))


@given(st.integers(1, 5000), st.integers(1, 2000))
def test_in_order_is_every_sample_once(samples, batch):
    parts = list(in_order(samples, batch))
    assert np.concatenate(parts).tolist() == list(range(samples))
    assert all(len(part) == batch for part in parts[:-1])
