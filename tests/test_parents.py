"""Trials that begin from others: their identity, bits, failures and results."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import sweeper
from sweeper.errors import UsageError
from sweeper.records import (
    METRICS,
    Asked,
    Parent,
    budget_of,
    descend,
    generation_of,
    is_trial,
    lineage_of,
    trial_stage,
)
from sweeper.search import Ask, ParamSelector, Perturb, PopulationBasedTraining, Truncate
from sweeper.show.export import json_text
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.results.load import read_results
from sweeper.testing.loop import memory, sweep
from sweeper.testing.selectors import simulate
from sweeper.testing.toy import ToyBackend, never, point_of
from sweeper.train.data.samples import shuffled
from sweeper.train.replica.checkpoints import Checkpoints
from sweeper.train.replica.streams import Streams
from sweeping import outcomes, run

pytestmark = pytest.mark.usefixtures("one_thread")

FIXED = sweeper.HyperparameterSettings(
    lr=0.1, batch_size=16, tunings=1, cycle_epochs=1, cycles=2, schedule="constant"
)
"""Nothing to tune; four steps in a cycle."""


class Family(ParamSelector):
    """Asks for each of these in turn, given the results so far, once the one before has ended."""

    adaptive = uses_parents = True
    look_ahead = 1

    def __init__(self, *asks):
        self.left, self.results = list(asks), []

    def get_next_trials(self):
        return self.left.pop(0)(self.results)

    def has_more_trials(self):
        return bool(self.left)

    def on_results(self, result):
        self.results.append(result)


def family(params, child=None, trials=2, children=3):
    """Two trials of a point, then children of the second, and grandchildren of their last."""
    child = child or params
    return Family(
        lambda _: Ask(params, trials, 2),
        lambda told: Ask(child, children, 1, told[0].as_parent(1)),
        lambda told: Ask(params, 1, 2, told[1].as_parent(children - 1)),
    )


# -- identity -------------------------------------------------------------------------------------


def test_a_child_does_not_draw_what_its_parent_drew():
    stages = ("trial@2", trial_stage(2, "1-" + "5e" * 8), trial_stage(1, "1-" + "5f" * 8))
    drawn = [
        Streams(0, "5e" * 32, stage, 0).generator("order").integers(1 << 40) for stage in stages
    ]
    assert len(set(drawn)) == len(drawn)


def test_stages_have_the_lineage():
    first = descend("5e" * 32, "trial@2", 1)
    stage = trial_stage(3, first)
    second = descend("5e" * 32, stage, 0)
    assert (budget_of(stage), lineage_of(stage), is_trial(stage)) == (3, first, True)
    assert budget_of(trial_stage(None, first)) is None
    assert is_trial(trial_stage(None, first))
    assert [generation_of(one) for one in ("", first, second)] == [0, 1, 2]
    others = [("5f" * 32, "trial@2", 1), ("5e" * 32, "trial@3", 1), ("5e" * 32, "trial@2", 0)]
    assert len({first, *(descend(*one) for one in others)}) == 4


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_a_parent_is_logged_and_replayed(slots):
    made = lambda: family((1, "x"), (2, "x"))  # noqa: E731
    store = memory()
    simulate(made(), slots, store, batches=6)
    log = simulate(made(), slots, store)
    asks = [entry for entry in log if isinstance(entry, Asked)]
    signature = point_of((1, "x")).signature
    assert [one.parent for one in asks] == [
        None,
        Parent((1, "x"), 1, 2),
        Parent((2, "x"), 2, 1, descend(signature, "trial@2", 1)),
    ]
    assert log == simulate(made(), 1, memory())
    stages = {one.stage for one in store.outcomes() if is_trial(one.stage)}
    assert stages == {asked.stage for asked in asks}


@pytest.mark.parametrize(
    ("parent", "said"),
    [
        (lambda told: Parent((7, "x"), 0, 2), "has not asked for this trial"),
        (lambda told: Parent((1, "x"), 0), "has not asked for this trial"),
        (lambda told: Parent((1, "x"), 2, 2), "has not asked for this trial"),
        (lambda told: told[0], "expected a Parent"),
    ],
)
def test_a_parent_that_nobody_knows_is_refused(parent, said):
    selector = Family(lambda _: Ask((1, "x"), 2, 2), lambda told: Ask((2, "x"), 1, 1, parent(told)))
    with pytest.raises(AssertionError, match=said):
        simulate(selector, 2, memory())


def test_a_parent_that_failed_or_has_not_ended_is_refused():
    def fails(_params, stage, number):
        return stage == "trial@2" and number == 1

    with pytest.raises(AssertionError, match=r"Parent\(params=\(1, 'x'\), .* has failed: .*boom"):
        simulate(family((1, "x")), 2, memory(), failing=fails)
    hasty = Family(
        lambda _: Ask((1, "x"), 1, 2), lambda _: Ask((1, "x"), 1, 2, Parent((1, "x"), 0, 2))
    )
    hasty.look_ahead = 2
    with pytest.raises(AssertionError, match="not finished"):
        simulate(hasty, 8, memory())


def test_parents_have_to_be_declared():
    careless = family((1, "x"))
    careless.uses_parents = False
    with pytest.raises(AssertionError, match="uses_parents = True"):
        simulate(careless, 1, memory())
    eager = family((1, "x"))
    eager.adaptive = False
    with pytest.raises(AssertionError, match="adaptive = True"):
        simulate(eager, 1, memory())


# -- bits -----------------------------------------------------------------------------------------

CHILD = {"hidden": 3, "lr": 0.02, "weight_decay": 0.3}

PROBLEM = """
import varied
from varied import dataset, loss, model, accuracy_style

def optimizer(weight_decay: float = 0.0):
    return {"name": "adamw", "weight_decay": weight_decay}
"""


def swept(folder, selector=None, source=PROBLEM, **options):
    """A family in the varied problem; returns its results."""
    path = folder.parent / "parental.py"
    path.write_text(source)
    options = {"hparams": FIXED, "cores": 1, "save_models": "final", **options}
    selector = selector or family({"hidden": 3, "dropout": 0.2}, CHILD)
    return run(folder, selector, str(path), **options)


def trials_of(folder):
    return {key: found for key, found in outcomes(folder).items() if is_trial(key[1])}


@pytest.mark.parametrize("pack", ["off", "auto"])
def test_a_child_equals_its_parent_trained_on_by_hand(pack, tmp_path):
    found = swept(tmp_path / "out", pack=pack)
    assert not found.failures
    how = next(note for note in found.notes if note.startswith("training"))
    assert ("2 of 2 points in packs" in how) is (pack == "auto")
    paths = Paths((tmp_path / "out").resolve())
    with Store.read(paths.database) as store:
        ids, (_, asked, _) = (
            store.ids(),
            [entry for entry in store.log(store.meta["selector"]) if isinstance(entry, Asked)],
        )
    signature = asked.point.signature
    parent = next(iter(ids))
    weights = torch.load(paths.model(ids[parent], 1, "trial@2"), weights_only=True)
    state = end_of(paths.checkpoints / parent / "1@2.end").states
    trained = trained_by_hand(weights, state, Streams(0, signature, asked.stage, 2))
    known = torch.load(paths.model(ids[signature], 2, asked.stage), weights_only=True)
    for name, value in trained.items():
        if pack == "off":
            assert torch.equal(value, known[name]), name
        else:  # packs agree but for rounding
            torch.testing.assert_close(value, known[name], rtol=1e-5, atol=1e-6)


def end_of(path):
    data = path.read_bytes()
    kept = Checkpoints(path.with_suffix(""), data[32:96].decode, None, 0.0)
    return kept.read_end()


def trained_by_hand(weights, state, streams):
    """One cycle in plain torch, from these weights and states, with the child's settings."""
    import varied

    streams.seed_globals("init")
    model = varied.model(3)
    model.load_state_dict(weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.3)
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = {k: v.clone() for k, v in state[f"full.{name}"].items()}
    sweeper_seed_of_data()
    x, y = map(torch.stack, zip(*varied.dataset()[0], strict=True))
    for places in shuffled(len(x), 16, streams.generator("order")):
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(model(x[places]), y[places]).backward()
        optimizer.step()
    return model.state_dict()


def sweeper_seed_of_data():
    from sweeper.train.replica.streams import dataset_seed, seed_globals

    seed_globals(dataset_seed(0))


@pytest.mark.parametrize("pack", ["off", "auto"])
def test_children_have_the_same_bits_however_they_were_trained(pack, tmp_path):
    swept(tmp_path / "quiet", pack=pack)
    known = trials_of(tmp_path / "quiet")
    assert len(known) == 2 + 3 + 1
    # Without its checkpoint a parent is trained again; alone, a child has the bits that it had in a
    # pack of three.
    alone = family({"hidden": 3, "dropout": 0.2}, CHILD, children=1)
    swept(tmp_path / "alone", Forgetful(alone, tmp_path / "alone"), pack=pack)
    found = trials_of(tmp_path / "alone")
    assert len(found) == 3
    assert found.items() <= known.items()


class Forgetful(ParamSelector):
    """Asks as another, without grandchildren, and deletes the checkpoints of all that has ended."""

    adaptive = uses_parents = True
    look_ahead = 1

    def __init__(self, inner, folder):
        self.inner, self.folder = inner, folder

    def get_next_trials(self):
        return self.inner.get_next_trials()

    def has_more_trials(self):
        return self.inner.has_more_trials()

    def on_results(self, result):
        self.inner.on_results(result)
        if len(self.inner.results) == 2:
            self.inner.left.clear()
        paths = list(Paths(self.folder).checkpoints.rglob("*.end"))
        assert paths
        for path in paths:
            path.unlink()


@pytest.mark.parametrize("pack", ["off", "auto"])
def test_a_child_of_another_shape_or_optimiser_fails_with_words(pack, tmp_path):
    source = PROBLEM.replace(
        "weight_decay: float = 0.0", 'weight_decay: float = 0.0, opt="adamw"'
    ).replace('"adamw", "weight', 'opt, "weight')
    selector = Family(
        lambda _: Ask({"hidden": 3}, 1, 1),
        lambda told: Ask({"hidden": 5}, 1, 1, told[0].as_parent(0)),
        lambda told: Ask({"hidden": 3, "opt": "sgd"}, 1, 1, told[0].as_parent(0)),
    )
    shape, optimiser = swept(tmp_path / "out", selector, source, pack=pack).failures
    assert "0.weight is float32 of shape (5, 2), in its parent float32 of shape (3, 2)" in str(
        shape
    )
    assert "its optimiser is sgd, its parent's is adamw" in str(optimiser)
    assert generation_of(shape.key[-1]) == 1


def test_a_lineage_keeps_the_split_of_its_first_trial():
    jobs = []

    class Noting(ToyBackend):
        def start_one(self, start):
            jobs.append(start.job)
            super().start_one(start)

    backend = Noting(0, 0.0, never)
    interrupts = SimpleNamespace(signal=None)
    sweep(family((1, "x")), 2, memory(), backend, interrupts, backend.clock)
    found = [job for job in jobs if "parent" in job.payload]
    assert {generation_of(lineage_of(job.stage)) for job in found} == {1, 2}
    assert {job.payload["parent"]["first"] for job in found} == {1}


# -- results --------------------------------------------------------------------------------------


def test_rows_of_different_parents_stay_apart():
    store = memory()
    selector = Family(
        lambda _: Ask((1, "x"), 2, 2),
        lambda told: Ask((2, "x"), 2, 2, told[0].as_parent(0)),
        lambda told: Ask((2, "x"), 2, 2, told[0].as_parent(1)),
        lambda told: Ask((2, "x"), 1, 2, told[0].as_parent(1)),
    )
    simulate(selector, 2, store)
    results = read_results(store)
    assert [len(numbers) for numbers in results.trial_numbers] == [2, 2, 3]
    assert [one and one.trial for one in results.parents] == [None, 0, 1]
    assert len({results.key(place) for place in range(3)}) == 3
    # What is compared are the trials of the last generation, and those of each parent are a point.
    assert len(results.comparable()) == 2
    assert results.best().params == (2, "x")
    assert [len(one.perf_val) for one in results.comparable().by("param_0")] == [5]
    assert "1 row of other groups, budgets or generations" in str(results.compare())
    rows = results.rows()
    assert [row["parent"] for row in rows] == [""] * 2 + ["1 x #0"] * 2 + ["1 x #1"] * 3
    assert [row["generation"] for row in rows] == [0] * 2 + [1] * 5
    assert len(results.where(generation=1)) == 2
    assert "generation  parent" in str(results.summary())
    first, second, _ = json.loads(json_text({}, results))["points"]
    assert "lineage" not in first
    assert second["parent"]["trial"] == 0
    assert second["generation"] == 1


# -- population-based training --------------------------------------------------------------------


def far(params, number, stage):
    """The objective is how near a setting is to 4; every generation shows it anew."""
    return dict.fromkeys(METRICS, -abs(params[0] - 4))


def test_a_population_moves_to_the_best_settings():
    store = memory()
    points = [(float(value),) for value in (1, 2, 3, 9, 20)]
    made = PopulationBasedTraining(points, "perf_val", 5, 12, Truncate(0.4), budget=2)
    simulate(made, 3, store, measured=far)
    results = read_results(store)
    last = results.comparable()
    assert {generation_of(lineage) for lineage in last.lineages} == {11}
    assert abs(last.best().params[0] - 4) < 0.3
    assert min(abs(value - 4) for (value,) in points) == 1


@pytest.mark.parametrize("factors", [(0.0, 1.0), (2.0, 1.0), ("a", 1.0)])
def test_factors_that_make_no_range_are_refused(factors):
    with pytest.raises(UsageError):
        Perturb(*factors)


def test_only_numbers_are_perturbed():
    generator = np.random.default_rng(0)
    assert [Perturb()(value, generator) for value in (True, "x", None)] == [True, "x", None]
    assert isinstance(Perturb()(50, generator), int)
    assert 0.8 <= Perturb()(1.0, generator) <= 1.2


@pytest.mark.parametrize("backend", ["inline", "local"])
def test_a_program_begins_where_its_parent_ended(backend, tmp_path):
    selector = PopulationBasedTraining(
        [{"rate": 1.0}, {"rate": 2.0}, {"rate": 3.0}], "value", 3, 3, direction="maximize", seed=1
    )
    found = sweeper.sweep(climbs, selector, folder=tmp_path, backend=backend, progress=False)
    assert not found.failures
    # Each generation adds its rate to what its parent had come to.
    rates = {}
    for place, point in enumerate(found):
        (value,), parent = point.metrics["value"], found.parents[place]
        before = 0.0 if parent is None else rates[parent.params["rate"], parent.lineage]
        rates[point.params["rate"], found.lineages[place]] = value
        assert value == before + point.params["rate"]
    assert len(found) == 9


def climbs(rate, trial):
    before = 0.0
    if trial.parent_folder is not None:
        before = float((trial.parent_folder / "value").read_text())
    (trial.folder / "value").write_text(repr(before + rate))
    return before + rate


def test_a_population_of_a_problem_is_the_same_killed_and_resumed_on_two_cores(tmp_path):
    points = [{"hidden": 3, "lr": rate} for rate in (0.001, 0.05, 0.2)]

    def population(generations=3):
        return PopulationBasedTraining(
            points, "loss_val", 3, generations, Truncate(0.34), direction="minimize"
        )

    quiet = swept(tmp_path / "quiet", population())
    assert not quiet.failures
    swept(tmp_path / "out", population(2), backend="local", total_cores=2)
    swept(tmp_path / "out", population(), backend="local", total_cores=2, checkpoint_every=0)
    assert outcomes(tmp_path / "out") == outcomes(tmp_path / "quiet")
    assert [name for name in quiet.lineages if name]
