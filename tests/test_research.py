"""What users of batchflow's Research know: iterations, filters, a sweep without files."""

from __future__ import annotations

import random
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest

import programs
import sweeper
from sweeper import Alias, Domain
from sweeper.errors import SettingsError, StoppedError, SweepInterrupted, UsageError
from sweeper.renamed import OF_RESEARCH
from sweeper.search import Ask, DomainUpdates, FixedSweep, Grid, RandomSearch, SobolSearch


def run(objective, points, **options):
    quiet = {"backend": "inline", "progress": False, "record_environment": False}
    return sweeper.sweep(objective, points, **{**quiet, **options})


def test_arguments_of_research_are_refused_with_what_to_write_instead(tmp_path):
    for name, instead in OF_RESEARCH.items():
        with pytest.raises(UsageError) as said:
            run(programs.number, [(1,)], trials=1, folder=tmp_path, **{name: 3})
        assert str(said.value) == f"{name}=3: {instead}"
    for selector in (RandomSearch, SobolSearch):
        with pytest.raises(UsageError, match="n_reps=3: give trials="):
            selector(Domain(x=[1, 2]), points=2, n_reps=3)
        with pytest.raises(UsageError, match="n_configs=2: give points="):
            selector(Domain(x=[1, 2]), n_configs=2, trials=3)
    assert not list(tmp_path.iterdir())


# -- iterations -----------------------------------------------------------------------------------

RATES = Domain(rate=[0.5, 0.25])
ASKS = [Ask({"rate": 0.5}, 2, 3), Ask({"rate": 0.25}, 2, 3)]


@pytest.mark.parametrize(
    "points",
    [
        RATES,
        [{"rate": 0.5}, {"rate": 0.25}],
        RATES.update_domain(lambda _: None, when="last"),
        RATES.update_domain(lambda _: None, when=1),
    ],
    ids=["domain", "list", "updated", "updated after each"],
)
def test_a_budget_bounds_the_iterations_of_all_trials(tmp_path, points):
    results = run(programs.endless, points, trials=2, budget=3, folder=tmp_path)
    assert results.budgets == (3, 3)
    history = results.to_dataframe(history=True)
    assert history["iteration"].tolist() == [1, 2, 3] * 4


@pytest.mark.parametrize(
    "selector",
    [
        Grid(RATES, trials=2, budget=3),
        FixedSweep.with_fixed_trials(list(RATES), 2, budget=3),
        FixedSweep([(point, 2) for point in RATES], budget=3),
        RandomSearch(RATES, 2, 2, budget=3),
        SobolSearch(RATES, 2, 2, budget=3),
        DomainUpdates(RATES.update_domain(lambda _: None, when="last"), 2, budget=3),
    ],
    ids=lambda selector: type(selector).__name__,
)
def test_a_selector_asks_with_its_budget(selector):
    asked = [selector.get_next_trials() for _ in range(2)]
    assert sorted(asked, key=lambda ask: -ask.params["rate"]) == ASKS


@pytest.mark.parametrize(
    ("points", "budget", "said"),
    [
        (RATES, 0, r"budget=0: it must be a whole number, 1 or more"),
        (RATES, 1.5, r"budget=1\.5: it must be a whole number"),
        (Grid(RATES, trials=1), 3, r"budget=3: Grid decides how far trials go"),
        ("grid.py", 3, r"budget=3: a grid that is a program says it, launcher\(budget=3\)"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(tmp_path, points, budget, said):
    trials = None if isinstance(points, Grid) else 1
    with pytest.raises(UsageError, match=said):
        run(programs.endless, points, trials=trials, budget=budget, folder=tmp_path)


# -- filters --------------------------------------------------------------------------------------


def test_results_are_filtered_by_value_by_alias_and_by_a_part_of_the_domain(tmp_path):
    acts = [Alias(np.tanh, "tanh"), Alias(np.abs, "abs")]
    points = Domain(act=acts, width=[16, 32, 64])
    results = run(applied, points, trials=1, folder=tmp_path)

    def found(*domain, **values):
        return [(p.params["act"].name, p.params["width"]) for p in results.where(*domain, **values)]

    tanh = [("tanh", 16), ("tanh", 32), ("tanh", 64)]
    for act in ("tanh", np.tanh, acts[0], "numpy:tanh"):
        assert found(act=act) == tanh
    assert found(act="cosh") == found(act=np.cosh) == []
    assert found(width=32, act="abs") == [("abs", 32)]
    assert found(Domain(width=[16, 64]), act=np.abs) == [("abs", 16), ("abs", 64)]
    assert found(Domain(act=[np.tanh])) == found(Domain(act=acts[:1])) == tanh
    assert found(Domain(act=acts[:1], width=[8])) == []
    with pytest.raises(UsageError, match="cannot be imported by name"):
        results.where(act=lambda: None)


def applied(act, width):
    return float(act(-width))


# -- a sweep without files ------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files; it must be empty at the end, and so must the current one."""
    folders = [tmp_path / name for name in ("temporary", "current")]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders[0]))
    monkeypatch.chdir(folders[1])
    yield folders[0]
    assert [list(folder.iterdir()) for folder in folders] == [[], []]


def with_artifacts(x, trial):
    trial.report(loss=x)
    trial.report(loss=x / 2)
    return {"loss": random.random() + x}, {"weights": np.full(3, x)}


def test_a_sweep_without_files_has_everything_in_memory(temporary, tmp_path):
    points = Domain(x=[1, 2])
    kept = run(with_artifacts, points, trials=2, folder=tmp_path / "kept")
    results = run(with_artifacts, points, trials=2, keep=False)
    assert results.to_dataframe().equals(kept.to_dataframe())
    history = results.to_dataframe(history=True)
    assert len(history) == 8
    assert history.equals(kept.to_dataframe(history=True))
    assert results.where(x=2).artifacts()[0, 1]["weights"].tolist() == [2, 2, 2]
    assert results.artifacts().keys() == kept.artifacts().keys()


def interrupting(x):
    signal.raise_signal(signal.SIGINT)
    return x


def failing(x):
    raise ValueError(f"no {x}")


@pytest.mark.parametrize(
    ("objective", "error"), [(interrupting, SweepInterrupted), (failing, StoppedError)]
)
def test_one_that_ends_early_leaves_nothing_and_says_so(temporary, objective, error):
    points = [(n,) for n in range(300)]  # more than are told at once
    with pytest.raises(error, match=r"but not kept, since keep=False$"):
        run(objective, points, trials=1, keep=False)


def test_a_sweep_without_files_has_no_folder_and_cannot_be_detached(temporary):
    with pytest.raises(SettingsError, match=r"folder='out' and keep=False exclude each other"):
        run(failing, [(1,)], trials=1, keep=False, folder=Path("out"))
    with pytest.raises(UsageError, match=r"keep=False and detach=True exclude each other"):
        run(failing, [(1,)], trials=1, keep=False, detach=True)
