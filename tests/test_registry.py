"""Selectors by name: what is registered, and how one is made from options."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sweeper.errors import SelectorError, SettingsError, UsageError
from sweeper.search import (
    FixedSweep,
    Grid,
    OptunaSearch,
    ParamSelector,
    Race,
    RandomSearch,
    SobolSearch,
)
from sweeper.search.domain import Domain, Uniform
from sweeper.search.reading.making import as_selector, make_selector
from sweeper.search.reading.names import names_of
from sweeper.search.reading.spaces import Space, choose_selector, modules_own
from sweeper.search.selectors import EARLIER_NAMES, SHIPPED, find_selector, selector_names
from sweeper.testing.selectors import drive as drive_whole


def drive(selector, **options):
    """What the selector asks for, as pairs."""
    return [(ask.params, ask.trials) for ask in drive_whole(selector, **options)]


CLIMBER = """
from sweeper.search import ParamSelector

class Climber(ParamSelector):
    name = "climb"

    def __init__(self, ranges, trials=3, seed=0, *, step: float = 0.5):
        self.told = ranges, trials, seed, step

    def get_next_trials(self):
        return None

    def has_more_trials(self):
        return False

def raises():
    raise ZeroDivisionError("no selector today")

def makes_a_list():
    return [1]

nothing = 3
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed package that offers selectors, as pip leaves one."""

    def install(package, **points):
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[sweeper.selectors]", *lines]))

    (tmp_path / "climbing.py").write_text(CLIMBER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "climbing", raising=False)
    install(
        "climbing",
        climb="climbing:Climber",
        broken="climbing_elsewhere:Climber",
        number="climbing:nothing",
        other="pathlib:Path",
        raises="climbing:raises",
        listed="climbing:makes_a_list",
        grid="climbing:Climber",
    )
    return install


# -- the registry ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_found_by_its_name(name):
    assert callable(find_selector(name))
    assert name in selector_names()


def test_an_earlier_name_belongs_to_a_selector_that_is_shipped():
    shipped = [FixedSweep([]), Grid(trials=1), Race(FixedSweep([]), 5)]
    assert {names_of(selector)[0] for selector in shipped} == set(EARLIER_NAMES) <= set(SHIPPED)


def test_what_is_not_registered_is_named_with_the_choices():
    with pytest.raises(
        UsageError,
        match=r"selector 'rase': there is no such selector \(did you mean race\?\): .*grid, .*race",
    ):
        find_selector("rase")


def test_an_installed_package_offers_its_own(installed):
    assert find_selector("climb").name == "climb"
    assert "climb" in selector_names()
    assert find_selector("grid") == Grid.from_options  # ours go first
    for name, said in (
        ("broken", "climbing_elsewhere:Climber cannot be imported: ModuleNotFoundError"),
        ("number", "selector 'number' of package climbing: climbing:nothing is 3: it must be"),
        ("other", "it must be a subclass of ParamSelector"),
    ):
        with pytest.raises(UsageError, match=said):
            find_selector(name)
    installed("other", climb="elsewhere:Climber")
    with pytest.raises(UsageError, match=r"several installed packages offer one: cl.*, el"):
        find_selector("climb")


def test_nothing_is_imported_before_it_is_asked_for():
    code = (
        "import sys, sweeper, sweeper.search.selectors as registry\n"
        "found = lambda: {m for m in sys.modules if m.startswith('sweeper.search.selectors.')}\n"
        "assert not found(), found()\n"
        "registry.find_selector('grid')\n"
        "assert found() == {'sweeper.search.selectors.grid'}, found()\n"
        "assert sweeper.Race.name == 'race'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- made of what `sweep` is given ----------------------------------------------------------------


def test_a_domain_and_a_list_of_points_are_asked_for():
    domain = 0.5 * Domain(a=range(5)) + 0.5 * Domain(b=range(5))
    assert drive(as_selector(domain, 3, 7)) == drive(Grid(domain, trials=3, seed=7))
    assert drive(as_selector([(1,), {"a": 2}], 3, 7)) == [((1,), 3), ({"a": 2}, 3)]
    selector = Grid(trials=1)
    assert as_selector(selector, None, 0) is selector


@pytest.mark.parametrize(
    ("given", "trials", "said"),
    [
        (Grid(trials=1), 3, "trials=3: Grid decides how many trials each point gets"),
        (Domain(a=[1]), None, "trials= is missing"),
        ([(1,)], None, "trials= is missing"),
        (Domain(a=[1]), -1, "trials=-1"),
        ([3], 1, r"points\[0\]=3 is a int"),
        (Domain(a=Uniform(0, 1)), 3, "has no end: .*RandomSearch"),
        (((1,), (2,)), 3, r"selector=\(\(1,\), \(2,\)\) is a tuple: pass a ParamSelector"),
        (Grid, None, "is a ABCMeta: pass a ParamSelector"),
        ({"a": [1]}, 3, r"a Domain or a list of points"),
    ],
)
def test_what_sweep_cannot_take_is_said(given, trials, said):
    with pytest.raises((SettingsError, UsageError), match=said):
        as_selector(given, trials, 0)


# -- made from options ----------------------------------------------------------------------------


def test_options_are_texts_or_values():
    texts = make_selector("grid", {"trials": "2", "a": "1,2", "b": "[x]"})
    values = make_selector("grid", {"trials": 2, "a": [1, 2], "b": ["x"]})
    assert drive(texts) == drive(values) == drive(Grid(trials=2, a=[1, 2], b=["x"]))
    fixed = make_selector("fixed", {"points": "[(1,2),{a: 3}]", "trials": "4"})
    assert drive(fixed) == [((1, 2), 4), ({"a": 3}, 4)]
    drawn = make_selector("random", {"points": 3, "trials": 1, "ranges": "{a: (0,9)}", "seed": 5})
    assert drive(drawn) == drive(FixedSweep.with_random_trials({"a": (0, 9)}, 3, 1, seed=5))
    race = make_selector("race", {"keep": "2", "max_trials": "9", "selector": Grid(trials=1)})
    assert (race._keep, race._max_trials) == (2, 9)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("rase", {}, "selector 'rase': there is no such"),
        ("race", {"kep": "2"}, r"option kep=2: .*did you mean keep\?.*; it takes selector, max_tr"),
        ("race", {"keep": "2"}, "selector race needs selector and max_trials: give --option sel"),
        ("fixed", {"points": "3", "trials": 1}, "points=3 is not a list of points"),
        ("grid", {"trials": "many"}, "trials='many': it must be a whole number"),
        ("grid", {"trials": "1", "a": "1,1"}, "option a=1,1: a value is given twice"),
        ("grid", {"trials": "1", "a": "nan"}, "option a=nan: NaN"),
    ],
)
def test_what_is_wrong_with_options_is_said(name, options, said):
    with pytest.raises(UsageError, match=said):
        make_selector(name, options)


def test_what_making_one_raises_is_said(installed):
    with pytest.raises(SelectorError, match="selector raises raised ZeroDivisionError: no selec"):
        make_selector("raises", {})
    with pytest.raises(SelectorError, match=r"selector listed made \[1\] \(a list\)"):
        make_selector("listed", {})
    unknown = r"option a=1: selector raises has no such option.*no options"
    with pytest.raises(UsageError, match=unknown):
        make_selector("raises", {"a": "1"})


# -- as the command line says it ------------------------------------------------------------------


def chosen(
    selector=None,
    *options,
    grid=(),
    random=None,
    ranges=(),
    trials=None,
    seed=0,
    known=None,
    points=None,
    **said,
) -> ParamSelector:
    if not isinstance(points, int | None):
        said, points = {**said, "points": points}, None
    space = Space.read(grid, random, ranges, trials, seed, selector, options, points)
    return choose_selector(space, "toy", "toy.py", known, lambda: said)


def test_without_a_name_all_is_as_it_was():
    assert drive(chosen(grid=["a=1,2"], points=[(9,)])) == [({"a": 1}, 10), ({"a": 2}, 10)]
    assert drive(chosen(points=[(9,)], trials=2)) == [((9,), 2)]
    with pytest.raises(UsageError, match="nothing says what to try"):
        chosen()


def test_every_shipped_selector_is_offered():
    assert drive(chosen("grid", grid=["a=1,2"], trials=3)) == [({"a": 1}, 3), ({"a": 2}, 3)]
    assert drive(chosen("grid", "a=1,2")) == [({"a": 1}, 10), ({"a": 2}, 10)]
    assert drive(chosen("grid", "repeat_each=2", grid=["a=1,2"], trials=2)) == drive(
        Grid(Domain(a=[1, 2]), trials=2, repeat_each=2)
    )
    assert drive(chosen("fixed", "points=[(1,)]")) == [((1,), 10)]
    drawn = FixedSweep.with_random_trials({"a": (0, 9)}, 3, 2, r_eps=0.2, seed=5)
    again = chosen("random", "r_eps=0.2", random=3, ranges=["a=0:9"], trials=2, seed=5)
    assert drive(again) == drive(drawn)
    again = chosen("random", "r_eps=0.2", "points=3", "seed=5", ranges=["a=0:9"], trials=2)
    assert drive(again) == drive(FixedSweep.with_random_trials({"a": (0, 9)}, 3, 2, 0.2, 5))
    domain = Domain(act=["x", "y"], a=Uniform(0.0, 9.0))
    line = {"grid": ["act=x,y"], "ranges": ["a=0.0:9.0"], "points": 5, "trials": 2, "seed": 3}
    assert drive(chosen("sobol", **line)) == drive(SobolSearch(domain, 5, 2, seed=3))
    assert drive(chosen("random_search", **line)) == drive(RandomSearch(domain, 5, 2, seed=3))
    ours = OptunaSearch(domain, 5, 2, sampler="random", metric="loss_val", seed=3)
    assert drive(chosen("optuna", "sampler=random", "metric=loss_val", **line)) == drive(ours)
    assert drive(chosen(**line)) == drive(RandomSearch(domain, 5, 2, seed=3))
    race = chosen("race", "keep=2", grid=["a=1,2"], trials=7)
    assert isinstance(race, Race)
    assert (race._keep, race._max_trials) == (2, 7)
    assert race.get_next_trials() == ({"a": 1}, 3)


def test_a_race_takes_what_the_module_says():
    def race(*options, **said):
        space = Space.read((), None, (), None, 0, "race", options)
        return choose_selector(space, "toy", "toy.py", None, lambda: said)

    own = FixedSweep([((1,), 5)])
    assert race(points=[(1,)])._max_trials == 10
    assert race(points=[(1,)], trials=6)._max_trials == 6
    assert race("max_trials=8", points=[(1,)], trials=6)._max_trials == 8
    assert race("max_trials=8", selector=own)._selector is own
    with pytest.raises(UsageError, match="selector race needs max_trials"):
        race(selector=own)


def test_another_packages_selector_is_given_what_it_takes(installed):
    told = chosen("climb", "step=0.25", ranges=["a=0:9"], trials=4, seed=7).told
    assert told == ({"a": (0, 9)}, 4, 7, 0.25)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"selector": "zz"}, "selector 'zz': there is no such selector: choose one of broken"),
        ({"options": ["keep=2"]}, "--option keep=2: it needs --selector NAME"),
        ({"selector": "race", "options": ["keep"]}, "--option 'keep': write name=value"),
        ({"selector": "race", "ranges": ["a=0:1"]}, "--range: it needs --points N"),
        (
            {"selector": "grid", "ranges": ["a=0:1"]},
            "a parameter has a distribution: use RandomSearch",
        ),
        (
            {"selector": "fixed", "grid": ["a=1"]},
            "takes no axes, but points, trials, budget; --grid goes with --selector .*, grid, ",
        ),
        ({"selector": "random", "grid": ["a=1"]}, "--grid: selector random takes no axes"),
        ({"selector": "random", "ranges": ["b=0:1"]}, "--range b: problem toy has no such param"),
        ({"selector": "random", "ranges": ["a=0:1"]}, "selector random needs points"),
        (
            {"selector": "raises", "trials": 3},
            "--trials 3: selector raises takes no trials, but no",
        ),
        ({"selector": "halving", "grid": ["a=1"], "budget": 3}, "selector halving takes no budget"),
        ({"random": 2, "ranges": ["a=0:1"], "budget": 3}, "--budget 3: --random 2 takes none"),
        ({"program": "grid.py", "budget": 3}, r"--budget 3: .* says it, launcher\(budget=3\)"),
        ({"grid": ["a=1"], "budget": 0}, "budget=0"),
    ],
)
def test_what_does_not_go_together_is_said(installed, line, said):
    line = {"grid": (), "random": None, "ranges": (), "trials": None, "seed": 0, **line}
    with pytest.raises(UsageError, match=said):
        choose_selector(Space.read(**line), "toy", "toy.py", ["a"], dict)


@pytest.mark.parametrize(
    "line",
    [
        {"grid": ["a=1"]},
        {"grid": ["a=1"], "selector": "grid"},
        {"grid": ["budget=1"], "selector": "grid"},  # a parameter of this name
        {"grid": ["a=1,2"], "points": 1},
        {"grid": ["a=1,2"], "points": 1, "selector": "random_search", "trials": 2},
        {},
    ],
)
def test_a_budget_is_that_of_every_trial(line):
    line = {"grid": (), "random": None, "ranges": (), "trials": None, "seed": 0, **line}
    space = Space.read(**line, budget=4)
    (ask,) = drive_whole(choose_selector(space, "toy", "toy.py", None, lambda: {"points": [(1,)]}))
    assert ask.budget == 4
    with pytest.raises(UsageError, match="--budget 4: the selector of problem toy decides"):
        modules_own("toy", "toy", {"selector": list}, None, 4)


def test_a_selectors_own_number_of_trials_goes_before_the_default_of_the_command_line():
    halving = chosen("halving", "max_budget=3", grid=["a=1,2,3"])
    assert {trials for _, trials in drive(halving)} == {1}
    halving = chosen("halving", "max_budget=3", grid=["a=1,2,3"], trials=4)
    assert {trials for _, trials in drive(halving)} == {4}
    assert drive(chosen("grid", grid=["a=1"])) == [({"a": 1}, 10)], "it has no default"
