"""Metrics that a problem declares: equal to scikit-learn's on the stored model, wherever told."""

from __future__ import annotations

import csv
import json
import subprocess

import numpy as np
import pytest
import torch
from ignite.metrics import Accuracy
from sklearn.metrics import f1_score

import cancer_metrics
import sweeper
from blobs import QUICK
from sweeper.errors import ProblemError, UsageError
from sweeper.train.problem.measure.declared import read_metrics
from sweeping import python, run

NAMES = ("f1_train", "f1_val", "cost_train", "cost_val", "right_train", "right_val")


@pytest.fixture(scope="module", params=["auto", "off"])
def swept(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("declared") / "out"
    selector = sweeper.Grid(trials=3, width=[4, 8])
    return folder, run(folder, selector, "cancer_metrics", hparams=QUICK, pack=request.param)


def test_they_are_scikit_learns_on_the_stored_model(swept):
    folder, results = swept
    sets = dict(zip(("train", "val"), cancer_metrics.dataset(), strict=True))
    for place, point in enumerate(results):
        model = cancer_metrics.model(**point.params)
        for trial, number in enumerate(results.trial_numbers[place]):
            stored = folder / "points" / str(place) / "trials" / str(number) / "model.pt"
            model.load_state_dict(torch.load(stored))
            model.eval()
            for name, samples in sets.items():
                x, y = samples.tensors
                with torch.no_grad():
                    chosen = model(x).argmax(1)
                wanted = f1_score(y, chosen)
                assert results.values(f"f1_{name}")[place][trial] == wanted
                own = getattr(point, f"perf_{name}")[trial]
                assert results.values(f"right_{name}")[place][trial] == pytest.approx(own)


def test_they_are_told_everywhere(swept):
    folder, results = swept
    assert [one.name for one in results.metrics][4:] == list(NAMES)
    loaded = sweeper.load(folder)
    for name in NAMES:
        for here, there in zip(results.values(name), loaded.values(name), strict=True):
            assert here.tobytes() == there.tobytes()
    frame = results.to_dataframe()
    assert set(NAMES) <= set(frame.columns)
    best = max(results, key=lambda point: frame[frame.width == point.params["width"]].f1_val.mean())
    assert results.best("f1") is results.best("f1_val")
    assert results.best("f1").params == best.params
    assert "f1_val" in str(results.summary())
    assert "f1_val" in results.summary().to_markdown()
    assert "f1_train" not in str(results.summary())
    assert results.compare(metric="f1").metric == "f1_val"
    with np.load(folder / "points" / "0" / "results.npz") as file:
        assert file["final_f1_val"].tolist() == results.values("f1_val")[0].tolist()
    with pytest.raises(UsageError, match=r"metric='auc': choose one of perf_train, .*, right_val"):
        results.best("auc")


def test_what_is_better_is_declared(swept):
    _, results = swept
    costs = [values.mean() for values in results.values("cost")]
    assert results.best("cost") is results[int(np.argmin(costs))]


def test_the_command_line_tells_them(swept):
    folder, results = swept

    def said(command, *options):
        told = python("-m", "sweeper", command, str(folder), *options, stdout=subprocess.PIPE)
        return told.communicate()[0]

    shown = said("show")
    assert "f1_val" in shown
    assert "f1_train" not in shown
    assert "What can be said in f1_val" in said("compare", "--metric", "f1")
    (row, *_) = csv.DictReader(said("export", "--format", "csv").splitlines())
    assert float(row["f1_val"]) == results.values("f1_val")[0][0]
    (first, *_) = json.loads(said("export", "--format", "json"))["points"]
    assert first["f1_val"] == results.values("f1_val")[0].tolist()
    assert first["summary"]["f1_val"]["mean"] == pytest.approx(results.values("f1")[0].mean())


class Hears(sweeper.FixedSweep):
    told = None

    def on_results(self, result):
        self.told.append(result)
        super().on_results(result)

    def on_trials_completed(self, params, *arrays):
        self.classic.append((params, [len(one) for one in arrays]))


def test_selectors_are_told_every_metric_by_name(tmp_path):
    selector = Hears([({"width": 4}, 2)])
    selector.told, selector.classic = [], []
    results = run(tmp_path, selector, "cancer_metrics", hparams=QUICK)
    told = {
        int(number): {name: values[place] for name, values in result.metrics.items()}
        for result in selector.told
        for place, number in enumerate(result.numbers)
    }
    assert sorted(told) == [0, 1]
    assert set(told[0]) == {*sweeper.records.METRICS, *NAMES}
    for number in told:
        assert told[number]["f1_val"] == results.values("f1_val")[0][number]
        assert told[number]["loss_val"] == results[0].loss_val[number]
    assert sum(lengths[0] for _, lengths in selector.classic) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1], "a mapping of names to functions"),
        ({"f1": 3}, "'f1' is a int, 3"),
        ({"perf": len}, "other names than .*perf.*, which are taken"),
        ({"a b": len}, "names that are Python names, and 'a b' is none"),
        (
            {"f1": (len, "up")},
            "a direction of 'maximize', .* for 'f1', not 'up'",
        ),
    ],
)
def test_what_is_no_metric_is_refused(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        read_metrics(given)


def test_what_gives_no_number_is_said_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(cancer_metrics, "metrics", {"f1": lambda output, y: output})
    message = r"metrics of model\(width=4\).*metrics\['f1'\] gives Tensor"
    with pytest.raises(ProblemError, match=message):
        run(tmp_path, sweeper.Grid(trials=1, width=[4]), cancer_metrics, hparams=QUICK)


def test_a_metric_of_ignite_begins_anew_for_each_set():
    (metric,) = read_metrics({"right": Accuracy()})
    output, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    assert metric.value(output, y) == 0.5
    assert metric.value(output[:1], y[:1]) == 1.0
    assert [one.name for one in metric.measured] == ["right_train", "right_val"]


def test_a_trial_that_diverged_has_none(tmp_path):
    hparams = sweeper.HyperparameterSettings(lr=1e9, epochs=4, tunings=1)
    monstrous = sweeper.FixedSweep.with_fixed_trials([{"width": 4}], 2)
    results = run(tmp_path, monstrous, "cancer_metrics", hparams=hparams)
    diverged = ~np.isfinite(results[0].loss_val) if len(results[0].loss_val) else np.array([])
    assert np.isnan(results.values("f1_val")[0][diverged.astype(bool)]).all()
