"""A test set beside the others, and sets that sweeper splits itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import sweeper
import three_sets
from sweeper.files import unpack_arrays
from sweeper.results import METRICS
from sweeper.show.export import json_text
from sweeper.show.table import findings
from sweeper.store.paths import Paths
from sweeper.train.checksum import Checksum
from sweeping import run
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
    parts = [torch.utils.data.TensorDataset(some, some[:, 0]) for some in x.split([30, 15, 5])]
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
