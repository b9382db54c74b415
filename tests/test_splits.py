"""A test set beside the others, and sets that sweeper splits itself."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

import one_set
import sweeper
import three_sets
from sweeper.disk.arrays import unpack_arrays
from sweeper.errors import ProblemError
from sweeper.records import CORRECT, METRICS
from sweeper.show.export import json_text
from sweeper.show.table import findings
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.train.data import splits
from sweeper.train.data.checksum import Checksum
from sweeper.train.data.samples import Data, HeldSet
from sweeper.train.data.splits import Splits, read_rule, sizes
from sweeper.train.eager.trial import train_trial
from sweeper.train.mode import agreement
from sweeper.train.mode.bits import check_bits
from sweeper.train.mode.choose import choose_mode
from sweeper.train.packs.evaluation import PackEvaluation
from sweeper.train.packs.members import Member
from sweeper.train.packs.trial import train_pack
from sweeper.train.tuning.trials import Trials
from sweeper.train.vectorize.lowering import batched
from sweeping import assert_same_bits, outcomes, run
from test_probes import PARAMS, TRIAL, bits, plain, streams_of
from test_probes import problem_of as toy
from test_train_data import opened
from test_train_data import problem_of as problem_with

pytestmark = pytest.mark.usefixtures("one_thread")

TWO = {"hidden": [2, 4]}


# -- a test set -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["off", "auto"])
def tested(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tested")
    grid = sweeper.Grid(trials=3, **TWO)
    return folder, run(folder, grid, "three_sets", pack=request.param, save_models="final")


def test_the_test_set_is_measured_with_the_model_that_is_saved(tested):
    folder, results = tested
    x, y = three_sets.dataset()[2].tensors
    for place, point in enumerate(results):
        for trial, number in enumerate(results.trial_numbers[place]):
            model = three_sets.model(**point.params)
            path = Paths(folder).model_pattern.format(id=place, number=number)
            model.load_state_dict(torch.load(path))
            with torch.no_grad():
                output = model.eval()(x)
                loss = torch.nn.functional.cross_entropy(output, y, torch.tensor([0.3, 1.0]))
            perf = (output.argmax(1) == y).double().mean()
            assert results.test[place].perf_test[trial] == pytest.approx(float(perf))
            assert results.test[place].loss_test[trial] == pytest.approx(float(loss), rel=1e-5)


def test_the_test_set_is_told_for_the_leader_and_in_every_export(tested):
    folder, results = tested
    place = next(at for at, point in enumerate(results) if point is results.best())
    mean = f"{results.test[place].perf_test.mean():.4f}"
    name = f"hidden={results[place].params['hidden']}"
    for text in (
        str(results.summary()),
        results.summary().to_markdown(),
        "\n".join(findings(results)),
    ):
        told = [line for line in text.splitlines() if "perf_test" in line]
        assert len(told) == 1
        assert told[0].startswith(f"★ {name} on the test set: perf_test {mean}")
    rows = results.rows()
    assert [row["perf_test"] for row in rows] == [*results.test[0][0], *results.test[1][0]]
    assert list(rows[0])[-2:] == ["perf_test", "loss_test"]
    point = json.loads(json_text({}, results))["points"][1]
    assert point["loss_test"] == list(results.test[1].loss_test)
    arrays = unpack_arrays(Paths(folder).results(1).read_bytes())
    assert list(arrays)[-2:] == ["final_loss_test", "final_perf_test"]
    assert arrays["final_perf_test"].tolist() == results.test[1].perf_test.tolist()
    assert sweeper.load(folder).test[0].loss_test.tolist() == results.test[0].loss_test.tolist()


def test_nothing_can_be_chosen_by_the_test_set(tested):
    _, results = tested
    assert "perf_test" not in METRICS
    for choose in (results.best, lambda metric: results.compare(metric=metric)):
        with pytest.raises(sweeper.UsageError, match="perf_test"):
            choose("perf_test")


def test_without_a_test_set_nothing_is_told_of_one(tmp_path):
    results = run(tmp_path / "out", sweeper.Grid(trials=2, hidden=[2]))
    assert results.test is None
    assert results.summary().on_test is None
    assert "test" not in str(results.summary())
    assert "perf_test" not in results.rows()[0]
    assert "final_loss_test" not in unpack_arrays(Paths(tmp_path / "out").results(0).read_bytes())


@pytest.mark.parametrize("budget", [10**9, 0])
def test_only_a_test_set_changes_the_checksum(budget):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, generator=random)
    parts = [TensorDataset(some, some[:, 0]) for some in x.split([30, 15, 5])]
    checksum = Checksum()
    for part in parts[:2]:  # as it was before there were test sets
        checksum.begin(len(part))
        checksum.add([part.tensors[0], part.tensors[1]])
    two = opened(problem_with(lambda: tuple(parts[:2])), budget)[0]
    three, data = opened(problem_with(lambda: tuple(parts)), budget)
    assert two.sha256 == checksum.sha256
    assert three.sha256 != two.sha256
    assert (three.n_train, three.n_val, three.n_test, two.n_test) == (30, 15, 5, 0)
    (found,) = data.test.batches([np.arange(5)])
    assert torch.equal(found[0], parts[2].tensors[0])


# -- splits: which samples ------------------------------------------------------------------------

RULES = st.one_of(st.floats(0.001, 0.999), st.integers(2, 7).map(sweeper.KFold))


@given(RULES, st.integers(0, 60), st.integers(0, 30), st.booleans())
def test_a_split_is_all_samples_once_and_of_one_size(rule, more, number, labelled):
    samples = splits.least_samples(rule) + more
    labels = np.arange(samples) % 3 if labelled else None
    found = Splits(rule, samples, labels, seed=5)
    kept, held = found.of_trial(number)
    n_train, n_val = sizes(rule, samples)
    assert len(kept) == n_train
    assert len(held) in {
        n_val,
        n_val - (isinstance(rule, sweeper.KFold) and samples % rule.folds > 0),
    }
    assert min(len(kept), len(held)) >= 1
    together = np.concatenate([kept, held])
    assert len(set(together.tolist())) == len(together) >= samples - 1
    for part in (kept, held):
        assert part.tolist() == sorted(part.tolist())
    for pair in found.pairs:
        assert len({len(found.of_trial(one)[1]) for one in pair}) == 1
    lengths = {len(found.of_trial(one)[1]) for one in range(10)}
    assert {len(found.of_trial(one)[1]) for pair in found.pairs for one in pair} >= lengths


@pytest.mark.parametrize("rule", [0.2, 0.35, sweeper.KFold(5), sweeper.KFold(3)], ids=str)
def test_classes_and_targets_are_in_proportion(rule):
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    targets = np.random.default_rng(0).normal(size=100) ** 3
    share = sizes(rule, 100)[1] / 100
    for number in range(6):
        _, held = Splits(rule, 100, labels, 0).of_trial(number)
        counts = np.bincount(labels[held], minlength=3)
        assert np.abs(counts - share * np.array([60, 30, 10])).max() <= 2
        _, held = Splits(rule, 100, targets, 0).of_trial(number)
        ranks = targets.argsort().argsort()[held]
        assert abs((ranks < 50).sum() - len(held) / 2) <= 1


def test_folds_have_every_sample_once_in_five_trials():
    for samples in (103, 100, 5, 9):
        found = Splits(sweeper.KFold(5), samples, np.arange(samples) % 4, 0)
        for first in (0, 5, 35):
            parts = [found.of_trial(first + fold)[1] for fold in range(5)]
            assert sorted(np.concatenate(parts).tolist()) == list(range(samples))


@pytest.mark.parametrize("rule", [0.2, sweeper.KFold(5)], ids=str)
@pytest.mark.parametrize("labels", [None, np.arange(100) * 1.5], ids=["none", "distinct"])
def test_every_number_and_every_seed_has_another_split(rule, labels):
    parts = [
        tuple(Splits(rule, 100, labels, seed).of_trial(number)[1].tolist())
        for seed in range(2)
        for number in range(25)
    ]
    assert len(set(parts)) == 50


# -- splits: reading ------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [10**9, 0])
@pytest.mark.parametrize("rule", [0.3, sweeper.KFold(4)], ids=str)
def test_held_and_loaded_data_are_split_alike(budget, rule):
    def make():
        return TensorDataset(one_set.X, one_set.Y)

    problem = problem_with(make)
    problem.module.validation = rule
    ref, data = opened(problem, budget)
    assert (ref.n_train, ref.n_val) == sizes(rule, 103)
    assert bool(ref.layouts) == (budget > 0)
    for number in (0, 1, 3):
        kept, held = Splits(rule, 103, one_set.Y.numpy(), 0).of_trial(number)
        sets = data.of_trial(number)
        for part, places in ((sets.train, kept), (sets.val, held)):
            ((x, y),) = part.batches([np.arange(len(part))])
            assert torch.equal(x, one_set.X[places])
            assert torch.equal(y, one_set.Y[places])
    assert data.of_trial(2).test is None


def test_what_cannot_be_sorted_is_split_without_and_says_so(monkeypatch):
    rows = problem_with(lambda: TensorDataset(one_set.X, one_set.X))
    assert "not by label" in opened(rows)[0].notes[0]
    single = problem_with(lambda: TensorDataset(one_set.X, one_set.Y))
    assert "label" not in opened(single)[0].notes[0]
    monkeypatch.setattr("sweeper.train.data.reading.CHECKSUM_BYTES", 10)
    for budget in (10**9, 0):  # the same whatever the memory at hand
        ref, data = opened(single, budget)
        assert "not by label" in ref.notes[0]
        places = Splits(0.2, 103, None, 0).of_trial(0)[1]
        assert data.of_trial(0).val.places.tolist() == places.tolist()


def test_a_list_of_pairs_is_one_set():
    data = opened(problem_with(lambda: list(TensorDataset(one_set.X, one_set.Y))))[1]
    assert len(data.of_trial(0).val) == 21


@pytest.mark.parametrize("given", [0, 1, 1.0, -0.2, math.nan, True, "0.2", None, 5])
def test_a_validation_that_is_none_is_refused(given):
    problem = problem_with(lambda: TensorDataset(one_set.X, one_set.Y))
    problem.module.validation = given
    with pytest.raises(ProblemError) as error:
        opened(problem)
    message = str(error.value)
    shown = "missing" if given is None else repr(given)
    assert f"validation is {shown}" in message
    assert "above 0 and below 1, such as 0.2, or sweeper.KFold(5)" in message


@pytest.mark.parametrize("folds", [1, 0, 2.0, True, "5"])
def test_folds_that_are_none_are_refused(folds):
    with pytest.raises(sweeper.SettingsError, match="a whole number of at least 2"):
        sweeper.KFold(folds)


def test_folds_are_refused_where_they_have_no_use():
    few = problem_with(lambda: TensorDataset(one_set.X[:4], one_set.Y[:4]))
    few.module.validation = sweeper.KFold(5)
    with pytest.raises(
        ProblemError, match=r"of 4 samples, and validation is KFold\(5\).* 5 samples"
    ):
        opened(few)
    two = problem_with(lambda: [TensorDataset(one_set.X, one_set.Y)] * 2)
    two.module.validation = sweeper.KFold(5)
    with pytest.raises(ProblemError, match=r"KFold\(5\); expected none, or one set"):
        opened(two)
    assert read_rule(np.float32(0.25)) == 0.25


# -- splits: training -----------------------------------------------------------------------------


def split_data(rule, samples=103):
    x, y = one_set.X[:samples], (one_set.Y[:samples] > 0).long()
    whole = HeldSet(torch.cat([x, x[:, :1]], 1), y)
    return Data(whole, whole, splits=Splits(rule, samples, y.numpy(), 0))


@pytest.mark.parametrize("rule", [0.2, sweeper.KFold(5)], ids=str)
def test_a_pack_is_eager_training_of_each_members_own_part(rule):
    data, problem = split_data(rule), toy(plain)
    n_train, _ = sizes(rule, 103)
    told = replace(TRIAL, steps=8 * (n_train // 16))
    numbers = [0, 3, 4]
    members = [
        Member.make(problem, data, streams_of(n, "trial"), PARAMS, told.batch_size) for n in numbers
    ]
    # One in a set whose samples are all that the trial may see.
    for number, (member, trained) in zip(
        numbers, train_pack(problem, data, members, Trials(told), 4), strict=True
    ):
        kept, held = data.splits.of_trial(number)
        own = Data(*(HeldSet(data.train.x[some], data.train.y[some]) for some in (kept, held)))
        expected = train_trial(problem, own, member.streams, PARAMS, told, 4, Path("unused"))
        seen = train_trial(
            problem, data.of_trial(number), member.streams, PARAMS, told, 4, Path("unused")
        )
        assert bits(seen.model) == bits(expected.model)
        for name, value in expected.metrics.items():
            assert seen.metrics[name] == value
            assert trained.metrics[name] == pytest.approx(value, rel=1e-4)
        assert expected.arrays.keys() - seen.arrays.keys() == {CORRECT}, "of fixed sets only"
        assert trained.arrays.keys() == seen.arrays.keys()
        for name in seen.arrays:
            curve = expected.arrays[name]
            assert seen.arrays[name].tobytes() == curve.tobytes()
            np.testing.assert_allclose(trained.arrays[name], curve, rtol=1e-3)


def test_members_whose_parts_are_of_other_sizes_do_not_depend_on_each_other():
    data, problem = split_data(sweeper.KFold(5), 52), toy()
    told = replace(TRIAL, steps=8 * 2)

    def trained(numbers):
        members = [
            Member.make(problem, data, streams_of(n, "trial"), PARAMS, told.batch_size)
            for n in numbers
        ]
        found = train_pack(problem, data, members, Trials(told), 3)
        return {m.streams.number: (dict(t.metrics), bits(m.model), t.arrays) for m, t in found}

    assert len({len(data.of_trial(number).val) for number in range(5)}) == 2
    together = trained(range(5))
    for numbers in ([0], [4], [4, 0], [1, 2, 3]):
        for number, (metrics, weights, arrays) in trained(numbers).items():
            assert metrics == together[number][0]
            assert weights == together[number][1]
            for name, curve in arrays.items():
                assert curve.tobytes() == together[number][2][name].tobytes()


@pytest.mark.parametrize("rule", [0.2, sweeper.KFold(5)], ids=str)
def test_the_sizes_that_are_evaluated_are_checked(rule, monkeypatch):
    data, problem = split_data(rule), toy()
    told = replace(TRIAL, steps=40)
    checked = []
    run_packs = PackEvaluation.run

    def note(self, stacked, x, y):
        checked.append(x.shape[1])
        return run_packs(self, stacked, x, y)

    monkeypatch.setattr(PackEvaluation, "run", note)
    members = [
        Member.make(problem, data, streams_of(n, "way"), PARAMS, told.batch_size) for n in (0, 1)
    ]
    check_bits(problem, members, batched(members[0].trace), data, told, 0)
    parts = [data.of_trial(number) for number in range(10)]
    lengths = {len(part) for one in parts for part in (one.train, one.val)}
    assert set(checked) == lengths
    agreed = []
    check = agreement._check_evaluation

    def note_length(evaluation, state, pair, samples):
        agreed.append(len(samples))
        check(evaluation, state, pair, samples)

    monkeypatch.setattr(agreement, "_check_evaluation", note_length)
    mode = choose_mode(problem, data, streams_of(0, "way"), PARAMS, told)
    assert mode.kind == "flat"
    assert set(agreed) == lengths


GRID = {"trials": 7, "hidden": [2, 4]}
ALONE = {"trials": 7, "hidden": [2]}


@pytest.fixture(params=[0.2, sweeper.KFold(5)], ids=str)
def rule(request, monkeypatch):
    monkeypatch.setattr(one_set, "validation", request.param)
    return request.param


def written(folder, rule):
    """The problem as a module of its own, which other processes can import."""
    path = folder / "split_set.py"
    text = "KFold(5)" if isinstance(rule, sweeper.KFold) else str(rule)
    path.write_text(
        "from sweeper import KFold\n"
        "from one_set import accuracy_style, dataset, loss, model\n"
        f"validation = {text}\n"
    )
    return path


LOADED = """
import one_set
from one_set import accuracy_style, loss
from torch import nn

class model(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.inner = one_set.model(hidden)

    def forward(self, x):
        return self.inner(x["x"])

def dataset():
    return [({"x": x}, y) for x, y in zip(one_set.X, one_set.Y)]
"""


@pytest.mark.parametrize("how", ["off", "auto", "loaded"])
def test_a_trial_is_measured_on_its_own_split(tmp_path, how):
    options = {"pack": how, "save_models": "final"}
    path = tmp_path / "loaded_set.py"
    if how == "loaded":
        path.write_text(LOADED)
        options |= {"pack": "auto", "backend": "local"}
    module = path if how == "loaded" else "one_set"
    folder = tmp_path / "out"
    results = run(folder, sweeper.Grid(trials=2, hidden=[4, 3]), module, seed=8, **options)
    assert not results.failures
    found = Splits(0.2, 103, one_set.Y.numpy(), seed=8)
    for place, point in enumerate(results):
        for number in (0, 1):
            model = one_set.model(**point.params).eval()
            state = torch.load(Paths(folder).model_pattern.format(id=place, number=number))
            model.load_state_dict({key.removeprefix("inner."): state[key] for key in state})
            for name, places in zip(("train", "val"), found.of_trial(number), strict=True):
                with torch.no_grad():
                    loss = one_set.loss()(model(one_set.X[places]), one_set.Y[places])
                measured = getattr(point, f"loss_{name}")[number]
                assert measured == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize("pack", ["off", "auto"])
def test_the_same_bits_one_by_one_and_in_any_pack_on_any_number_of_cores(rule, tmp_path, pack):
    problem = written(tmp_path, rule)
    reference = run(tmp_path / "one", sweeper.Grid(**ALONE), problem, pack=pack, curve_samples=3)
    assert len(np.unique(reference[0].loss_val)) > 1
    modes = [{"backend": "local"}]
    if pack == "auto":
        modes += [{"pack": 1, "backend": "local", "total_cores": 1}, {"pack": 3}]
    for number, options in enumerate(modes):
        folder = tmp_path / f"other{number}"
        told = {"pack": pack, "curve_samples": 3, **options}
        result = run(folder, sweeper.Grid(**ALONE), problem, **told)
        assert_same_bits(reference, result)
        assert outcomes(folder) == outcomes(tmp_path / "one")


def test_interrupted_it_goes_on_with_the_same_bits(rule, tmp_path, monkeypatch):
    problem = written(tmp_path, rule)
    reference = run(tmp_path / "quiet", sweeper.Grid(**ALONE), problem)
    append = Store.append

    def interrupted(self, records):
        append(self, records)
        done = self.connection.execute("SELECT count(*) FROM outcomes WHERE stage = 'trial'")
        if done.fetchone()[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", sweeper.Grid(**ALONE), problem, pack=2)
    monkeypatch.setattr(Store, "append", append)
    assert 0 < sum(len(point.loss_val) for point in sweeper.load(tmp_path / "out")) < 7
    assert_same_bits(reference, run(tmp_path / "out", sweeper.Grid(**ALONE), problem, pack=3))
    assert outcomes(tmp_path / "out") == outcomes(tmp_path / "quiet")


def test_points_are_compared_on_the_same_splits(rule, tmp_path, monkeypatch):
    results = run(tmp_path / "out", sweeper.Grid(**GRID), "one_set")
    assert results.paired
    assert sweeper.load(tmp_path / "out").paired
    assert results.n_val == sizes(rule, 103)[1]
    assert "of 103 samples" in str(results.summary())
    assert "the same for all points" in str(results.summary())
    paired, single = results.compare(), results.compare(paired=False)
    assert "trials of the same number compared" in str(paired)
    assert "trials of the same number compared" not in str(single)
    differences = results[0].perf_val - results[1].perf_val
    assert abs(paired.rows[0].difference) == pytest.approx(abs(differences.mean()))
    assert paired.rows[0].high - paired.rows[0].low != single.rows[0].high - single.rows[0].low
    assert "same number" not in str(results.compare(by="all"))
    # It belongs to the folder.
    other = 0.3 if rule == 0.2 else sweeper.KFold(4)
    monkeypatch.setattr(one_set, "validation", other)
    said = rf"validation is {str(rule)!r} in the folder and {str(other)!r} here".replace("(", r"\(")
    said = said.replace(")", r"\)").replace("'0.2'", "0.2").replace("'0.3'", "0.3")
    with pytest.raises(sweeper.FolderError, match=said):
        run(tmp_path / "out", sweeper.Grid(**GRID), "one_set")


def test_two_sets_are_not_paired(tmp_path):
    results = run(tmp_path / "out", sweeper.Grid(trials=2, hidden=[2]))
    assert not results.paired
    assert results.n_val == 32
    assert "validation" not in " ".join(results.notes)
