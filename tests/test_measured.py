"""What a sweep stores of a trial is what torch says of its saved model on the whole sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sweeper
import whole_sets
from blobs import UNTUNED
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeping import run


def by_hand(folder, number):
    """Loss and accuracy of both sets, from the files of a trial."""
    trial = folder / "points" / "0" / "trials" / str(number)
    model, loss = whole_sets.model(), whole_sets.loss()
    model.load_state_dict(torch.load(trial / "model.pt", weights_only=True))
    if (trial / "loss.pt").exists():
        loss.load_state_dict(torch.load(trial / "loss.pt", weights_only=True))
        loss.eval()
    found = []
    for part in whole_sets.dataset():
        x, y = part.tensors
        with torch.no_grad():
            output = model(x)
            found += [float(loss(output, y)), float((output.argmax(1) == y)[y >= 0].float().mean())]
    return found


@pytest.mark.parametrize("pack", ["auto", "off"])
@pytest.mark.parametrize("used", whole_sets.LOSSES)
def test_what_is_stored_is_what_torch_gives_on_the_whole_sets(used, pack, tmp_path, monkeypatch):
    monkeypatch.setattr(whole_sets, "used", used)
    selector = sweeper.Grid(trials=2, hidden=[4])
    (point,) = run(tmp_path, selector, whole_sets, pack=pack, hparams=UNTUNED)
    for number in range(2):
        stored = (point.loss_train, point.perf_train, point.loss_val, point.perf_val)
        found = [values[number] for values in stored]
        assert found == pytest.approx(by_hand(tmp_path, number), rel=1e-5)


def test_the_parameters_of_a_loss_are_trained_and_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_sets, "used", "scaled")
    selector = sweeper.Grid(trials=2, hidden=[4])
    results = run(tmp_path, selector, whole_sets, hparams=UNTUNED)
    assert any("the loss has parameters" in note for note in results.notes)
    scales = [
        float(torch.load(file, weights_only=True)["log_scale"])
        for file in sorted(tmp_path.glob("points/0/trials/*/loss.pt"))
    ]
    assert len(scales) == 2
    assert not np.isclose(scales, -1.0).any()
    assert scales[0] != scales[1]


def test_a_batch_in_which_nothing_counts_is_no_divergence(tmp_path, monkeypatch):
    few = whole_sets.Y.clone()
    few[:190] = -100
    monkeypatch.setattr(whole_sets, "Y", few)
    (point,) = run(tmp_path, sweeper.Grid(trials=2, hidden=[4]), whole_sets, pack="off")
    assert np.isfinite(point.loss_train).all()


def test_a_folder_that_was_begun_before_is_measured_as_it_was(tmp_path):
    one, two = (sweeper.Grid(trials=trials, hidden=[4]) for trials in (1, 2))
    run(tmp_path, one, whole_sets, pack="off", hparams=UNTUNED)
    with Store.open(Paths(tmp_path).database) as store:
        store.set_meta({"numerics": 1})
    (point,) = run(tmp_path, two, whole_sets, pack="off", hparams=UNTUNED)
    whole = by_hand(tmp_path, 1)
    # Of the labels, a third is left out and counted as wrong.
    assert point.perf_train[1] == pytest.approx(whole[1] * 2 / 3, abs=0.02)
    assert abs(point.loss_val[1] - whole[2]) > 1e-3 * whole[2]
