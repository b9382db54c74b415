"""What would go wrong in silence is refused with words."""

import sys

import pytest

import programs
import sweeper
from sweeper import Command, Grid, PopulationBasedTraining, sweep
from sweeper.errors import SelectorError, SettingsError, UsageError

INLINE = {"backend": "inline", "progress": False, "record_environment": False}

POINTS = [{"x": 1}]


def test_a_selector_object_serves_one_sweep(tmp_path):
    """It has asked for everything: the second sweep would have been empty, and looked finished."""
    selector = Grid(trials=1, x=[1, 2])
    assert len(sweep(programs.number, selector, folder=tmp_path / "first", **INLINE)) == 2
    for folder in ("first", "second"):
        with pytest.raises(SelectorError, match="make a new Grid for each sweep"):
            sweep(programs.number, selector, folder=tmp_path / folder, **INLINE)


@pytest.mark.parametrize(
    "given",
    [{"profile": True}, {"on_error": "record"}, {"redirect": "sweep"}, {"redirect": "none"}],
)
def test_a_command_refuses_what_it_would_ignore(given, tmp_path):
    with pytest.raises(SettingsError, match="leave it out"):
        sweep(Command([sys.executable]), POINTS, trials=1, folder=tmp_path, **given, **INLINE)
    assert not list(tmp_path.iterdir())


# x more than its parent has left in its folder.
ADDS = """
before=0; [ -n "$3" ] && before=$(cat "$3/w")
echo w $((before + $1)); echo $((before + $1)) > "$2/w"
"""

SHELL = ["sh", "-c", ADDS, "sh", "{x}", "{folder}"]


def population(workload, folder):
    points = [{"x": 1}, {"x": 2}]
    selector = PopulationBasedTraining(points, "w", 2, 2, direction="maximize", budget=1)
    return sweep(workload, selector, folder=folder, metrics={"w": "maximize"}, **INLINE)


def test_a_command_begins_where_its_parent_ended(tmp_path):
    command = Command([*SHELL, "{parent_folder}", "{budget}"], metrics={"w": r"w (\d+)"})
    found = population(command, tmp_path)
    assert not found.failures
    children = [place for place, parent in enumerate(found.parents) if parent is not None]
    assert sum(len(found[place].metrics["w"]) for place in children) == 2
    for place in children:
        point, parent = found[place], found.parents[place]
        assert set(point.metrics["w"]) == {parent.params["x"] + point.params["x"]}


def test_a_command_that_takes_no_parent_is_told_so(tmp_path):
    """Its children would have begun from nothing, and been compared as if they had not."""
    command = Command([*SHELL, "", "{budget}"], metrics={"w": r"w (\d+)"})
    failures = population(command, tmp_path).failures
    assert len(failures) == 2
    assert "put {parent_folder} where it goes" in failures[0].message


def yields(x):
    while True:
        yield {"w": x}


def test_an_objective_that_takes_no_trial_cannot_begin_from_a_parent(tmp_path):
    failures = population(yields, tmp_path).failures
    assert len(failures) == 2
    assert "the objective has no parameter trial" in failures[0].message


def test_trials_without_a_number_are_not_called_a_single_trial(tmp_path):
    metrics = {"accuracy": "maximize"}  # the objective calls it acc
    grid = Grid(trials=2, x=[1, 2])
    found = sweep(programs.named, grid, folder=tmp_path, metrics=metrics, **INLINE)
    said = str(found.summary())
    assert "2 points with fewer than two trials that gave a number cannot be compared" in said
    assert "single trial" not in said


async def waits(x):
    return x


async def waits_and_yields(x):
    yield {"w": x}


class Waits:
    def setup(self):
        pass

    async def run(self, x):
        return x


@pytest.mark.parametrize("objective", [waits, waits_and_yields, Waits])
def test_an_async_function_is_refused_before_it_is_called(objective, tmp_path):
    with pytest.raises(UsageError, match=r"async function.*asyncio\.run"):
        sweep(objective, POINTS, trials=1, folder=tmp_path, **INLINE)


def test_a_star_import_leaves_pythons_open_alone():
    names = {}
    exec("from sweeper import *", names)
    assert "open" not in names
    assert "sweep" in names
    assert sweeper.open
