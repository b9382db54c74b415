"""Which validation samples the first trials of a point get right is stored with their outcomes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import cancer
import one_set
import segments
import sweeper
from blobs import UNTUNED
from sweeper.disk.arrays import unpack_arrays
from sweeper.records import CORRECT
from sweeper.results.artifacts import HeldRecords
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.train.data.samples import Data, HeldSet
from sweeping import outcomes, run
from test_probes import TRIAL, data_of, plain, problem_of


def stored_in(folder):
    """By point and number: the names of all arrays, and which samples are right."""
    with Store.read(Paths(folder).database) as store:
        ids = store.ids()
        found = {}
        for one in store.outcomes("stage = 'trial'"):
            arrays = unpack_arrays(one.arrays)
            found[ids[one.point], one.number] = (set(arrays), arrays.get(CORRECT))
        return found


def sweep_cancer(folder, trials=3, **options):
    hparams = dataclasses.replace(UNTUNED, lr=0.3, cycle_epochs=2)
    selector = sweeper.Grid(trials=trials, width=[2, 8])
    return run(folder, selector, "cancer", hparams=hparams, **options)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generalising") / "out"
    return folder, sweep_cancer(folder, trials=9, save_models="final")


def test_it_is_what_the_stored_model_gets_right(swept):
    folder, results = swept
    x, y = cancer.dataset()[1].tensors
    found = stored_in(folder)
    assert len(found) == 2 * 9
    for (place, number), (_, bits) in found.items():
        assert (bits is None) == (number == 8), "the first eight trials"
        if bits is None:
            continue
        model = cancer.model(**results[place].params)
        path = folder / "points" / str(place) / "trials" / str(number) / "model.pt"
        model.load_state_dict(torch.load(path))
        with torch.no_grad():
            right = (model.eval()(x).argmax(1) == y).numpy()
        assert np.unpackbits(bits, count=len(y)).astype(bool).tolist() == right.tolist()
        assert right.mean() == results[place].perf_val[number]
        assert 0.8 < right.mean() < 1


@pytest.mark.usefixtures("one_thread")
def test_eager_and_packed_trials_store_the_same():
    # `test_compiled` has the compiled ones.
    problem = problem_of(lambda: cancer.model(4))
    data = Data(*(HeldSet(*part.tensors) for part in cancer.dataset()))
    told = dataclasses.replace(TRIAL, steps=4 * 2 * 28)
    alone = segments.eager(None, told, range(4), problem, data)
    together = segments.packed(None, told, range(4), problem, data)
    found = {one.arrays[CORRECT].tobytes() for one in alone.values()}
    assert len(found) > 1, "trials differ"
    for number, one in together.items():
        assert one.arrays.keys() == alone[number].arrays.keys()
        assert one.arrays[CORRECT].tobytes() == alone[number].arrays[CORRECT].tobytes()


def test_no_pack_changes_what_is_stored(swept, tmp_path):
    assert "2 of 2 points in packs" in str(swept[1].summary())
    known = outcomes(swept[0])
    sweep_cancer(tmp_path, pack=2, save_models="final")
    trials = {which: found for which, found in outcomes(tmp_path).items() if which[1] == "trial"}
    assert len(trials) == 6
    assert trials == {which: known[which] for which in trials}


@pytest.mark.parametrize("mode", [segments.eager, segments.packed], ids=["eager", "packed"])
def test_a_trial_that_diverges_and_labels_that_are_ignored_store_nothing(mode):
    data = data_of()
    (good,) = mode(None, TRIAL, (0,), problem_of(plain), data).values()
    assert CORRECT in good.arrays
    endless = dataclasses.replace(TRIAL, lr_start=1e38, lr_end=1e38)
    (bad,) = mode(None, endless, (0,), problem_of(plain), data).values()
    assert np.isnan(bad.metrics["loss_val"])
    ignored = dataclasses.replace(data, val=HeldSet(data.val.x, data.val.y.clone()))
    ignored.val.y[3] = -100
    (some,) = mode(None, TRIAL, (0,), problem_of(plain), ignored).values()
    style = {"accuracy_style": "inv-loss"}
    (other,) = mode(None, TRIAL, (0,), problem_of(plain, **style), data).values()
    for one in (bad, some, other):
        assert set(good.arrays) - set(one.arrays) == {CORRECT}


def test_histories_and_files_are_as_they_were(swept):
    folder, results = swept
    frame = results.to_dataframe(history=True)
    assert CORRECT not in frame
    with np.load(folder / "points/0/curves.npz") as curves:
        assert set(curves) == {"trial_numbers", "step", *sweeper.records.METRICS}
    assert not [name for name in folder.rglob("*") if "correct" in name.name]


@pytest.mark.parametrize("pack", ["auto", "off"])
def test_a_set_that_is_split_anew_stores_nothing(tmp_path, pack):
    selector = sweeper.Grid(trials=3, hidden=[2, 3])
    run(tmp_path, selector, "one_set", hparams=UNTUNED, pack=pack)
    assert one_set.accuracy_style == "classification"
    assert all(bits is None for _, bits in stored_in(tmp_path).values())


def test_results_without_a_folder_have_it_in_memory(swept):
    _, results = swept
    held = HeldRecords(results.records[0]).correct()
    assert sorted(held) == list(range(8))
