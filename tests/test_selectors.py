"""One contract for every selector, and what each promises besides.

A new selector is a row in SELECTORS.
"""

from __future__ import annotations

import functools
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
from collections import deque
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper import search
from sweeper.errors import ParamError, UsageError
from sweeper.records import TRIAL
from sweeper.search import (
    Confirm,
    DomainUpdates,
    ExploredGrid,
    FixedSweep,
    Grid,
    Hyperband,
    ManualSearch,
    OptunaSearch,
    ParamSelector,
    Perturb,
    PopulationBasedTraining,
    Race,
    RandomSearch,
    SobolSearch,
    SuccessiveHalving,
    TunedComparison,
    inbox,
)
from sweeper.search.domain import Domain, IntUniform, Uniform
from sweeper.search.explore import Explorer
from sweeper.search.selectors.random_points import draw_points
from sweeper.signature import in_order
from sweeper.testing.selectors import (
    CLAUSES,
    MOST,
    asks_the_same_on_any_number_of_slots,
    check_selector,
    goes_on_where_it_was,
)
from sweeper.testing.selectors import drive as drive_whole


def drive(selector, **options):
    """What the selector asks for, as pairs."""
    return [(ask.params, ask.trials) for ask in drive_whole(selector, **options)]


# -- the contract ---------------------------------------------------------------------------------


class Climber(ParamSelector):
    """Adaptive: tries the neighbours of the best point so far, until none is better."""

    adaptive = True
    look_ahead = 2

    def __init__(self, start):
        self.queue = deque([start])
        self.seen = {start}
        self.open = 0
        self.best = None
        self.told = []

    def get_next_trials(self):
        if not self.queue:
            return None
        self.open += 2
        return (self.queue.popleft(),), 2

    def has_more_trials(self):
        return bool(self.queue or self.open)

    def on_trials_completed(self, params, perfs_train, losses_train, perfs_val, losses_val):
        self.open -= len(perfs_val)
        self.told.append(params)
        if self.best is None or perfs_val.mean() > self.best:
            self.best = perfs_val.mean()
            for neighbour in (params[0] - 1, params[0] + 1):
                if neighbour not in self.seen:
                    self.seen.add(neighbour)
                    self.queue.append(neighbour)

    def on_failed(self, params, stage, error):
        self.open -= 1 if stage == TRIAL else 2
        self.told.append(params)


DOMAIN = Domain(a=range(6), b=[1, 2])
OTHER = Domain(c=[1, 2, 3])
INFINITE = Domain(a=IntUniform(0, 5), b=Uniform(0, 1)).when(a={1, 2}, c=[0, 1])


def narrow(results):
    """The next domain, which depends on the best point so far."""
    best = max(results, key=lambda result: result.metrics["perf_val"].sum(), default=None)
    return None if best is None or len(results) > 15 else Domain(a=range(best.params["a"], 30, 7))


@functools.cache
def folder_with_points():
    """A sweep's folder to which another process has added points."""
    folder = pathlib.Path(tempfile.mkdtemp())
    for asked in (search.Ask((1,), 2), search.Ask((2,), 1, 3, group="final"), search.Ask((1,), 1)):
        inbox.add(folder, asked)
    inbox.finish(folder)
    return folder


def manual():
    selector = ManualSearch()
    selector.on_opened(folder_with_points())
    return selector


SELECTORS = {
    "pairs": lambda: FixedSweep([((1, 2), 3), ({"a": 1}, 0), ((1, 2), 1)]),
    "nothing": lambda: FixedSweep([]),
    "fixed trials": lambda: FixedSweep.with_fixed_trials([(1,), (2,), (3,)], 2),
    "random tuples": lambda: FixedSweep.with_random_trials([9, {1, 2}, (0, 1.0)], 20, 2),
    "random dicts": lambda: FixedSweep.with_random_trials({"a": 9, "b": (-5, 5)}, 20, 2),
    "grid": lambda: Grid(trials=2, a=[1, 2], b=(3, 4, 5)),
    "grid without axes": lambda: Grid(trials=1),
    "grid of a domain": lambda: Grid(0.5 * DOMAIN + 0.5 * OTHER, trials=2, shuffle=True, seed=3),
    "grid by rounds": lambda: Grid(DOMAIN, trials=3, repeat_each=4),
    "random search": lambda: RandomSearch(INFINITE, 20, 2, seed=1),
    "random search of all": lambda: RandomSearch(DOMAIN, 12, 1),
    "sobol": lambda: SobolSearch(INFINITE, 20, 2, seed=1),
    "updates every three": lambda: DomainUpdates(DOMAIN.update_domain(narrow, 3), 2),
    "updates at times": lambda: DomainUpdates(DOMAIN.update_domain(narrow, [2, 5]), 2),
    "updates at last": lambda: DomainUpdates(DOMAIN.update_domain(narrow, "last"), 2),
    "race": lambda: Race(Grid(trials=1, a=range(8)), max_trials=20),
    "race for three": lambda: Race(FixedSweep([((1,), 2), ((2,), 1), ((3,), 0)] * 2), 9, keep=3),
    "race of nobody": lambda: Race(FixedSweep([]), 5),
    "halving": lambda: SuccessiveHalving([(n,) for n in range(27)], max_budget=9),
    "halving, twice each": lambda: SuccessiveHalving(
        Grid(trials=1, a=range(7)), 5, 2, 9, eta=2, trials=2, metric="loss_val"
    ),
    "population": lambda: PopulationBasedTraining(
        Domain(width=IntUniform(10, 99), rate=Uniform(0, 1)), population_size=5, max_generations=4
    ),
    "population of alike": lambda: PopulationBasedTraining(
        [(1, "x"), (2, "y"), (3, "x"), (4, "y")], "loss_val", 4, 3, explore=Perturb(1, 1), budget=2
    ),
    "halving of one": lambda: SuccessiveHalving([(1,)]),
    "hyperband": lambda: Hyperband([(n,) for n in range(30)], max_budget=9),
    "tuned comparison": lambda: TunedComparison(
        Domain(v=[1, 2]), Domain(x=IntUniform(0, 9)), 3, 4, tunings=2
    ),
    "tuned comparison by optuna": lambda: TunedComparison(
        Domain(v=[1, 2]), Domain(x=IntUniform(0, 9)), 5, 4, tunings=2, sampler="tpe"
    ),
    "optuna": lambda: OptunaSearch({"a": range(9), "b": Uniform(0, 1)}, 12, look_ahead=3),
    "optuna, cma-es": lambda: OptunaSearch(
        {"b": Uniform(0, 1), "c": Uniform(0, 1)}, 9, 2, sampler="cmaes", look_ahead=2
    ),
    "optuna, two metrics": lambda: OptunaSearch(
        lambda trial: (trial.suggest_int("a", 1, 5),), 9, metric=("perf_val", "loss_train")
    ),
    "manual": manual,
    "explored": lambda: ExploredGrid(Explorer(lambda launch: [launch(a=n) for n in (1, 2)]), 3),
    "confirm": lambda: Confirm(Grid(trials=2, a=range(6)), 5),
    "confirm points": lambda: Confirm([(1,), (2,), (1,)], 4, leaders=5),
    "confirm nobody": lambda: Confirm(FixedSweep([]), 4),
    "confirm an adaptive one": lambda: Confirm(Climber(3), 2, metric="loss_val"),
    "confirm halving": lambda: Confirm(
        SuccessiveHalving([(n,) for n in range(9)], max_budget=9), 3
    ),
    "confirm what is only tuned": lambda: Confirm(FixedSweep([((1,), 0), ((2,), 1), ((1,), 0)]), 2),
    "adaptive": lambda: Climber(3),
}


@pytest.fixture(params=SELECTORS.values(), ids=SELECTORS.keys())
def make(request):
    return request.param


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
def test_every_selector_keeps_the_contract(make, clause):
    clause(make, MOST)


def test_only_a_manual_search_waits_for_somebody_outside(make):
    selector = make()
    assert selector.waiting_outside() is isinstance(selector, ManualSearch)


def test_the_adaptive_one_depends_on_results_and_is_told_in_order():
    selector = Climber(3)
    asked = drive(selector)
    assert [params for params, _ in asked] == selector.told
    assert (6,) in selector.told  # the top of the toy problem
    assert drive(Climber(3), failing=lambda params: params == (3,)) == asked[:1]


def test_the_harness_catches_breaches():
    class Waits(Climber):
        adaptive = False

    class Endless(FixedSweep):
        def has_more_trials(self):
            return True

        def get_next_trials(self):
            return (1,), 1

    class Miscounts(FixedSweep):
        def get_next_trials(self):
            params, _ = super().get_next_trials()
            return params, -1

    class Stalls(FixedSweep):
        def has_more_trials(self):
            return True

    for breach in (Waits(3), Endless([]), Miscounts([((1,), 1)]), Stalls([])):
        with pytest.raises(AssertionError):
            drive(breach)


class Forgets(Climber):
    """Its first answer is another each time."""

    starts = itertools.count(1)

    def __init__(self):
        super().__init__(next(self.starts))


class Peeks(Climber):
    """Says that it does not depend on results."""

    adaptive = False

    def has_more_trials(self):
        return bool(self.queue)


class Revives(FixedSweep):
    """Has more again when it is asked once too often."""

    def get_next_trials(self):
        answer = super().get_next_trials()
        if answer is None:
            self._left.append(((1,), 1))
        return answer


@pytest.mark.parametrize(
    ("breach", "said"),
    [
        (Forgets, "a new one that is told the same asks differently"),
        (lambda: Peeks(3), "it is not adaptive, and waits|what it asks depends on results"),
        (lambda: Revives([((2,), 1)]), "it had ended, and has more|does not end"),
    ],
)
def test_the_contract_catches_breaches(breach, said):
    with pytest.raises(AssertionError, match=said):
        check_selector(breach)


def test_each_clause_about_whole_sweeps_catches_a_breach_by_itself():
    with pytest.raises(AssertionError, match="its asks differ between"):
        asks_the_same_on_any_number_of_slots(Forgets)
    with pytest.raises(AssertionError, match="Forgets does not ask what it asked before"):
        goes_on_where_it_was(Forgets)


def test_the_defaults_of_the_protocol():
    class Least(ParamSelector):
        def get_next_trials(self):
            return None

        def has_more_trials(self):
            return False

    selector = Least()
    assert (selector.adaptive, selector.look_ahead, selector.waiting_outside()) == (False, 8, False)
    none = np.array([])
    assert selector.on_opened(pathlib.Path("/somewhere")) is None
    assert selector.on_begin(3) is None
    assert selector.on_hparams_found((1,), 0.1, 0.2, 16) is None
    assert selector.on_trials_completed((1,), none, none, none, none) is None
    assert selector.on_failed((1,), "trial", "why") is None
    with pytest.raises(TypeError):
        ParamSelector()


def test_every_selector_is_public():
    public = {*search.__all__, "Climber"}
    for make_one in SELECTORS.values():
        name = type(make_one()).__name__
        assert name in public, f"{name} is to be in _LAZY and __all__ of sweeper/search/__init__.py"


# -- FixedSweep -----------------------------------------------------------------------------------


class Row(NamedTuple):
    params: object
    lr_min: float
    lr_max: float
    batch_size: int
    perf_train: object
    loss_train: object
    perf_val: object
    loss_val: object


def row(params, trials):
    return Row(params, 0.1, 0.2, 16, *[np.zeros(trials)] * 4)


def test_points_come_in_their_order_with_their_trials():
    pairs = [((2,), 3), ({"a": 1}, 0), ((2,), np.int64(1))]
    assert drive(FixedSweep(pairs)) == [((2,), 3), ({"a": 1}, 0), ((2,), 1)]
    assert drive(FixedSweep(iter([[(2,), 3]]))) == [((2,), 3)]


def test_the_results_of_an_earlier_sweep_are_its_points_again():
    earlier = [row((2,), 3), tuple(row({"a": 1}, 2)), row((3,), 0), ((4,), 5)]
    assert drive(FixedSweep(earlier)) == [((2,), 3), ({"a": 1}, 2), ((3,), 0), ((4,), 5)]


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([(1,)], r"results\[0\]=\(1,\) is neither a pair .*with_fixed_trials"),
        ([((1,), 1), 7], r"results\[1\]=7 is neither"),
        ([tuple(range(8))], r"results\[0\]=.* is neither"),
        ([(16, 3)], r"results\[0\]: params=16 is a int.*write \(value,\)"),
        ([({16}, 3)], r"results\[0\]: params=\{16\} is a set"),
        ([((1,), -1)], r"results\[0\]: trials=-1: it must be a whole number, 0 or more"),
        ([((1,), 2.0)], r"results\[0\]: trials=2.0"),
        ([((1,), True)], r"results\[0\]: trials=True"),
        ([row("ab", 1)], r"results\[0\]: params='ab'"),
    ],
)
def test_what_is_no_point_is_named(results, said):
    with pytest.raises(UsageError, match=said):
        FixedSweep(results)


def test_fixed_trials_checks_what_it_is_given():
    with pytest.raises(UsageError, match=r"points\[1\]='Tanh' is a str"):
        FixedSweep.with_fixed_trials([(1,), "Tanh"], 3)
    for trials in (-1, 2.0, True, None):
        with pytest.raises(UsageError, match="trials="):
            FixedSweep.with_fixed_trials([], trials)


# -- random points --------------------------------------------------------------------------------

# A range, with whether a value belongs to it, and how far apart two of its values are in widths.
integers = st.tuples(st.integers(-1000, 1000), st.integers(0, 2000)).map(
    lambda ends: (ends[0], ends[0] + ends[1])
)
floats = st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.sampled_from([tuple, list])).map(
    lambda ends: ends[2]([ends[0], ends[0] + ends[1]])
)
choices = st.frozensets(st.text(max_size=3) | st.integers() | st.none(), min_size=1, max_size=5)
ranges_drawn = st.integers(0, 100) | integers | floats | choices | choices.map(set)


def belongs(value, given_range):
    if isinstance(given_range, set | frozenset):
        return value in given_range
    low, high = (0, given_range) if isinstance(given_range, int) else given_range
    kind = float if isinstance(low, float) or isinstance(high, float) else int
    return type(value) is kind and low <= value <= high


def distance(one, other, given_range):
    """In widths of the range."""
    if one == other:
        return 0
    if isinstance(given_range, set | frozenset):
        return 1
    low, high = (0, given_range) if isinstance(given_range, int) else given_range
    return abs(one - other) / (high - low)


@given(
    st.lists(ranges_drawn, min_size=1, max_size=4),
    st.integers(0, 12),
    st.sampled_from([0, 0.01, 0.3]),
    st.integers(0, 2**40),
)
def test_points_lie_in_their_ranges_and_apart(ranges, points, r_eps, seed):
    try:
        drawn = draw_points(ranges, points, r_eps, seed)
    except UsageError as error:
        drawn, refusal = None, str(error)
    if drawn is None:
        assert "were found" in refusal
        return
    assert len(drawn) == points
    for params in drawn:
        assert type(params) is tuple
        assert all(itertools.starmap(belongs, zip(params, ranges, strict=True)))
    for one, other in itertools.combinations(drawn, 2):
        apart = [distance(*three) for three in zip(one, other, ranges, strict=True)]
        assert any(far > 0 and far >= r_eps * (1 - 1e-9) for far in apart)
    assert draw_points(ranges, points, r_eps, seed) == drawn
    assert draw_points(ranges, points // 2, r_eps, seed) == drawn[: points // 2]


def test_another_seed_gives_other_points():
    assert draw_points([(0, 1.0)], 5, seed=0) != draw_points([(0, 1.0)], 5, seed=1)


def test_a_mapping_gives_dicts_whatever_its_order():
    one = draw_points({"b": (0, 1.0), "a": {1, 2, 3}}, 6)
    other = draw_points({"a": {1, 2, 3}, "b": (0, 1.0)}, 6)
    assert one == other
    assert [list(params) for params in one] == [["b", "a"]] * 6


@pytest.mark.parametrize(
    ("given_range", "count"),
    [(4, 5), ((4, 6), 3), ([-1, 1], 3), (0, 1), ((7, 7), 1), ({"Tanh", "ReLU"}, 2), ({None}, 1)],
)
def test_both_ends_are_reached_and_a_small_space_can_be_exhausted(given_range, count):
    found = {params[0] for params in draw_points([given_range], count)}
    assert len(found) == count
    assert all(belongs(value, given_range) for value in found)
    with pytest.raises(ValueError, match=rf"points={count + 1}: only {count} were found"):
        draw_points([given_range], count + 1)


def test_both_ends_of_floats_can_be_drawn(monkeypatch):
    class Ends:
        def __init__(self):
            self.ends = itertools.cycle([0, 1])

        def integers(self, high, *, endpoint):
            assert endpoint
            return next(self.ends) * high

    monkeypatch.setattr(np.random, "default_rng", lambda _seed: Ends())
    assert draw_points([(0.1, 0.7)], 2) == [(0.1,), (0.7,)]
    monkeypatch.undo()
    tiny = (1.0, float(np.nextafter(1.0, 2)))
    assert {params[0] for params in draw_points([tiny], 2)} == set(tiny)


def test_a_float_at_either_end_makes_floats():
    for given_range in ((0, 1.0), (0.0, 1), [0.0, 1.0], (np.float32(0), np.int64(1))):
        assert type(draw_points([given_range], 1)[0][0]) is float
    for given_range in (np.int64(5), (np.int64(0), 5), 2**62, (-(2**63), 2**63 - 1)):
        assert type(draw_points([given_range], 1)[0][0]) is int


def test_integers_closer_than_r_eps_are_rejected():
    drawn = sorted(params[0] for params in draw_points([100], 6, r_eps=0.1))
    assert min(np.diff(drawn)) >= 10


def test_close_in_one_parameter_is_not_close():
    assert len(draw_points([{1}, (0, 1.0)], 20)) == 20
    assert len(draw_points([{"a", "b"}, (3, 3)], 2)) == 2


def test_too_many_rejected_says_how_many_and_what_to_change():
    with pytest.raises(ValueError, match=r"points=9: only \d were found.*fewer.*r_eps.*0\.4"):
        FixedSweep.with_random_trials([(0, 1.0)], 9, 1, r_eps=0.4)


@pytest.mark.parametrize("hash_seed", ["0", "1", "2"])
def test_sets_are_drawn_from_alike_in_every_process(hash_seed):
    choices_ = {"Tanh", "ReLU", "ELU", "GELU", "SiLU", 3, 20, None}
    code = (
        "from sweeper.search.selectors.random_points import draw_points; "
        f"print(draw_points([{choices_!r}, frozenset({choices_!r})], 20))"
    )
    root = str(pathlib.Path(search.__file__).parents[2])
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == f"{draw_points([choices_, frozenset(choices_)], 20)}\n"


def test_draws_never_drift():
    # A sweep that is run again after an update finds its points by these.
    ranges = {"hidden": (8, 128), "rate": (0, 1.0), "nonlinearity": {"Tanh", "ReLU"}}
    assert draw_points(ranges, 3, seed=1) == GOLDEN


GOLDEN = [
    {"hidden": 65, "rate": 0.14415961271963373, "nonlinearity": "Tanh"},
    {"hidden": 107, "rate": 0.31183145201048545, "nonlinearity": "Tanh"},
    {"hidden": 113, "rate": 0.8277025938204419, "nonlinearity": "ReLU"},
]


@pytest.mark.parametrize(
    "given_range",
    [
        True,
        (False, True),
        (False, 3),
        -1,
        0.5,
        "Tanh",
        ("Tanh", "ReLU"),
        [16, 32, 64],
        (1,),
        (),
        set(),
        frozenset(),
        (2, 1),
        (0, float("inf")),
        (0, float("nan")),
        (-1e308, 1e308),
        (0.0, 10**400),
        2**63,
        None,
        np.zeros(2),
        {"low": 0, "high": 1},
        range(4),
        int,
    ],
    ids=repr,
)
def test_a_bad_range_is_named_with_its_value_and_the_rule(given_range):
    with pytest.raises(UsageError, match=r"^hidden="):
        draw_points({"hidden": given_range}, 1)
    with pytest.raises(UsageError, match=r"^ranges\[1\]="):
        draw_points([3, given_range], 1)


def test_a_list_of_choices_is_told_to_be_a_set():
    with pytest.raises(UsageError, match=r"hidden=\[16, 32, 64\] is not a range.*write a set"):
        draw_points({"hidden": [16, 32, 64]}, 1)
    with pytest.raises(ParamError, match="hidden"):
        draw_points({"hidden": {b"bytes"}}, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ranges": {1, 2}}, "ranges="),
        ({"ranges": "ab"}, "ranges='ab' is a str"),
        ({"ranges": 5}, "ranges=5 is a int"),
        ({"ranges": []}, "at least one range"),
        ({"ranges": {}}, "at least one range"),
        ({"ranges": {1: 5}}, "the name 1 is not a string"),
        ({"points": -1}, "points=-1"),
        ({"points": 1.5}, "points=1.5"),
        ({"trials": -1}, "trials=-1"),
        ({"trials": 1.0}, "trials=1.0"),
        ({"r_eps": -0.1}, "r_eps=-0.1"),
        ({"r_eps": 1}, "r_eps=1"),
        ({"r_eps": float("nan")}, "r_eps=nan"),
        ({"r_eps": "0.1"}, "r_eps='0.1'"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": None}, "seed=None"),
    ],
)
def test_random_trials_checks_what_it_is_given(change, said):
    with pytest.raises(UsageError, match=said):
        FixedSweep.with_random_trials(**{"ranges": [5], "points": 1, "trials": 1, **change})


# -- Grid -----------------------------------------------------------------------------------------


def test_the_first_axis_varies_slowest():
    assert drive(Grid(trials=3, hidden=[16, 64], nonlinearity=("Tanh", "ReLU"))) == [
        ({"hidden": 16, "nonlinearity": "Tanh"}, 3),
        ({"hidden": 16, "nonlinearity": "ReLU"}, 3),
        ({"hidden": 64, "nonlinearity": "Tanh"}, 3),
        ({"hidden": 64, "nonlinearity": "ReLU"}, 3),
    ]


def test_any_iterable_is_an_axis_and_a_set_is_put_in_order():
    names = {"Tanh", "ReLU", "ELU"}
    asked = drive(Grid(trials=0, a=np.arange(2), b=iter([None]), c=names, self=range(1)))
    assert [tuple(params.values()) for params, _ in asked] == [
        (a, None, c, 0) for a in (0, 1) for c in in_order(names)
    ]
    assert all(type(params["a"]) is int for params, _ in asked)


def test_without_axes_there_is_one_point():
    assert drive(Grid(trials=4)) == [({}, 4)]


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ("Tanh", r"hidden='Tanh' is not a list of values: for one value write hidden=\['Tanh'\]"),
        (b"ab", "hidden=b'ab' is not a list"),
        (16, r"for one value write hidden=\[16\]"),
        (np.array(3), "is not a list"),
        ({"a": 1}, "is not a list"),
        (None, "is not a list"),
        ([], r"hidden=\[\] has no values"),
        (set(), "has no values"),
        ([1, 2, 1], "hidden has 1 more than once"),
        ([float("nan")], "hidden is NaN"),
        ({b"bytes"}, "hidden=b'bytes' is a bytes"),
    ],
)
def test_a_bad_axis_is_named_with_what_to_write(axis, said):
    with pytest.raises(UsageError, match=said):
        Grid(trials=1, hidden=axis)


def test_alike_values_of_different_types_are_different_points():
    assert len(drive(Grid(trials=1, a=[1, 1.0, True, "1"]))) == 4


@pytest.mark.parametrize("trials", [-1, 1.0, True, None, [1]])
def test_a_grid_checks_its_trials(trials):
    with pytest.raises(UsageError, match="trials="):
        Grid(trials=trials, a=[1])


def test_a_grid_takes_a_domain():
    domain = (Domain(a=[1, 2]) + Domain(a=[2, 3])) * Domain()
    assert drive(Grid(domain, trials=5)) == [({"a": 1}, 5), ({"a": 2}, 5), ({"a": 3}, 5)]
    assert drive(Grid(Domain(trials=[1], shuffle=[2]), trials=1)) == [
        ({"trials": 1, "shuffle": 2}, 1)
    ]
    assert drive(Grid(trials=1, seed=[1], shuffle=[True])) == [({"seed": 1, "shuffle": True}, 1)]


def test_a_shuffled_grid_has_the_same_points_in_an_order_of_its_seed():
    def order(seed):
        return drive(Grid(DOMAIN, trials=1, shuffle=True, seed=seed))

    in_order = drive(Grid(DOMAIN, trials=1))
    assert order(1) == order(1) != order(2)
    assert sorted(map(str, order(1))) == sorted(map(str, in_order))
    assert order(1) != in_order


@given(st.integers(1, 12), st.integers(0, 4), st.integers(1, 6))
def test_repeat_each_goes_round_some_points_until_each_has_all(count, trials, repeat_each):
    selector = Grid(Domain(a=range(count)), trials=trials, repeat_each=repeat_each)
    asked = drive(selector)
    assert selector.adaptive
    if trials == 0:
        assert asked == [({"a": place}, 0) for place in range(count)]
        return
    assert asked == [
        ({"a": place}, 1)
        for begin in range(0, count, repeat_each)
        for _ in range(trials)
        for place in range(begin, min(begin + repeat_each, count))
    ]


@pytest.mark.parametrize(
    ("make_one", "said"),
    [
        (lambda: Grid(Domain(a=Uniform(0, 1)), trials=1), "has no end: .*RandomSearch"),
        (lambda: Grid([(1,)], trials=1), r"\[\(1,\)\] is a list: give a Domain"),
        (lambda: Grid(DOMAIN, trials=1, b=[1]), r"b=\[1\]: with a domain, Grid takes trials, rep"),
        (lambda: Grid(DOMAIN, trials=1, shuffle=1), "shuffle=1: it must be True or False"),
        (lambda: Grid(DOMAIN, trials=1, repeat_each=0), "repeat_each=0: it must be 1 or more"),
        (lambda: Grid(DOMAIN, trials=1, seed=-1), "seed=-1"),
        (lambda: Grid(DOMAIN.where(lambda _: False), trials=1), "has no points"),
        (lambda: RandomSearch({"a": [1]}, 1, 1), r"\{'a': \[1\]\} is a dict: give a Domain"),
        (lambda: RandomSearch(DOMAIN, 13, 1), "points=13: only 12 were found"),
        (lambda: SobolSearch(DOMAIN, 1, 1.5), "trials=1.5"),
        (lambda: SobolSearch(DOMAIN, -1, 1), "points=-1"),
    ],
)
def test_what_a_search_of_a_domain_refuses(make_one, said):
    with pytest.raises(UsageError, match=said):
        make_one()


@pytest.mark.parametrize("search_of", [RandomSearch, SobolSearch])
def test_more_points_begin_with_the_fewer(search_of):
    few, many = (drive(search_of(INFINITE, count, 3, seed=5)) for count in (5, 20))
    assert many[:5] == few
    assert [trials for _, trials in few] == [3] * 5
    assert drive(search_of(INFINITE, 5, 3, seed=6)) != few
