"""The contract of selectors: `check_selector` checks all of it."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sweeper.errors import SelectorError, StalledError
from sweeper.records import METRICS, Asked, Params, Parent, Told, descend, is_trial, trial_stage
from sweeper.search import Ask, ParamSelector, SweepListener, TrialResults
from sweeper.search.reading.names import names_of
from sweeper.search.selector import as_ask
from sweeper.signature import params_key
from sweeper.store.database.store import Store
from sweeper.testing.loop import memory, sweep
from sweeper.testing.toy import Measured, ToyBackend, Which, draw, never, point_of

Measure: TypeAlias = Callable[[Params, int, int | None], float]
"""Gives a trial's performance, given its parameters, number and budget."""

Make: TypeAlias = Callable[[], ParamSelector]
"""Makes a new selector, the same each time."""

Counts: TypeAlias = dict[tuple[str, str], int]
"""By point and stage: how many trials there are."""

SLOTS = (1, 2, 8)
"""Numbers of cores on which a selector must ask the same."""

MOST = 1000
"""A selector with more asks counts as one without an end."""


def check_selector(make: Make, *, most: int = MOST) -> None:
    """Check that a selector keeps the protocol (see `ParamSelector`), clause by clause.

    Nothing is trained: results and times are made up.

    Args:
        make: Makes the selector, each time in its initial state.
        most: Maximum number of asks.

    Raises:
        AssertionError: a clause is broken; the message says which.
    """
    for clause in CLAUSES:
        clause(make, most)


# -- asking and telling ---------------------------------------------------------------------------


def measure(params: Params, number: int, budget: int | None) -> float:
    """A trial's metric in `drive`, which grows with the sum of its integers modulo 7."""
    del budget
    values = params.values() if isinstance(params, Mapping) else params
    return sum(value for value in values if isinstance(value, int)) % 7 + number / 10


def drive(
    selector: ParamSelector,
    *,
    failing: Callable[[Params], bool] = lambda _params: False,
    most: int = MOST,
    measured: Measure = measure,
) -> list[Ask]:
    """Ask and tell until the selector is done, as a sweep does; returns its asks.

    Args:
        selector: Is asked and told.
        failing: Whether a point's tuning fails.
        most: Maximum number of asks.
        measured: The performance of each trial.

    Raises:
        AssertionError: it breaks the protocol.
    """
    assert isinstance(selector, ParamSelector), f"{selector!r} is not a ParamSelector"
    assert isinstance(selector, SweepListener)
    assert selector.look_ahead >= 1, f"look_ahead={selector.look_ahead!r}: it must be 1 or more"
    selector.on_begin(1)
    asked: list[Ask] = []
    counts: Counts = {}
    open_asks: deque[Ask] = deque()
    limit = selector.look_ahead if selector.adaptive else most
    while True:
        while len(open_asks) < limit and (answer := ask(selector)) is not None:
            asked.append(answer)
            open_asks.append(answer)
            assert len(asked) < most, f"it has asked {most} times and does not end"
        if not open_asks:
            break
        if not selector.adaptive:
            assert not selector.has_more_trials(), "it is not adaptive, and waits for results"
        next_told = open_asks.popleft()
        if failing(next_told.params):
            selector.on_failed(next_told.params, "lr_range", "no learning rate improves it")
        else:
            tell(selector, next_told, counts, measured)
    assert not selector.has_more_trials(), "it waits, and nothing is left to be told of"
    return asked


def ask(selector: ParamSelector) -> Ask | None:
    """One ask, checked against the protocol."""
    before = selector.has_more_trials()
    assert isinstance(before, bool), f"has_more_trials() gave {before!r}, which is no bool"
    assert selector.has_more_trials() is before, "has_more_trials() changes its own answer"
    if not before:
        return None
    answer = selector.get_next_trials()
    if answer is None:
        return None
    found = as_ask(answer)
    for what, value, least in (("trials", found.trials, 0), ("budget", found.budget, 1)):
        if value is not None:
            assert type(value) is int, f"it asks for {what}={value!r}, which is no int"
            assert value >= least, f"it asks for {what}={value}"
    assert isinstance(found.group, str), f"it asks for group={found.group!r}, which is no text"
    point_of(found.params)
    return found


def tell(
    selector: ParamSelector,
    asked: Ask,
    counts: Counts,
    measured: Measure,
) -> None:
    """Tell everything about one ask at once; trial numbers continue after the point's last.

    `counts` are the trials of each point and stage so far, and are updated.
    """
    params, trials, budget = asked.params, asked.trials, asked.budget
    known, lineage = params_key(params), _lineage(asked.parent, counts)
    if (known, "") not in counts:
        counts[known, ""] = 0  # tuned
        selector.on_hparams_found(params, 0.01, 0.1, 32)
    stage = trial_stage(budget, lineage)
    first = counts.setdefault((known, stage), 0)
    counts[known, stage] += trials
    if trials:
        numbers = range(first, first + trials)
        perfs = np.array([measured(params, number, budget) for number in numbers])
        results = results_of(params, first, perfs, 1 - perfs, perfs, 1 - perfs)
        told = replace(results, budget=budget, group=asked.group, lineage=lineage)
        selector.on_results(told)


def _lineage(parent: Parent | None, counts: Counts) -> str:
    """The lineage of trials with this parent, which must have been told."""
    if parent is None:
        return ""
    told = counts.get((params_key(parent.params), parent.stage), 0)
    assert parent.trial in range(told), f"it asks for a parent that it was not told of: {parent}"
    return descend(point_of(parent.params).signature, parent.stage, parent.trial)


def results_of(params: Params, first: int, *columns: NDArray[np.float64]) -> TrialResults:
    """The results of trials from number `first` on, given the columns of `METRICS`."""
    numbers = np.arange(first, first + len(columns[0]))
    return TrialResults(params, numbers, dict(zip(METRICS, columns, strict=True)))


# -- whole sweeps, in fake time -------------------------------------------------------------------


def simulate(
    selector: ParamSelector,
    slots: int,
    store: Store,
    *,
    seed: int = 0,
    deaths: float = 0.0,
    failing: Which = never,
    batches: int | None = None,
    measured: Measured | None = None,
) -> tuple[Asked | Told, ...]:
    """Sweep the made-up problem as `sweeper.sweep` would; returns the selector's log.

    Args:
        selector: Asks for trials.
        slots: Number of workers.
        store: Stores the events; a store with a sweep is resumed.
        seed: Random seed of durations and deaths.
        deaths: The probability that a worker dies while running a replica.
        failing: Says which replicas fail.
        batches: Kill the sweep after this many batches of events; None: run to the end.
        measured: Gives the metrics of trials; None: arbitrary ones.

    Raises:
        AssertionError: the selector breaks its protocol, or stalls the sweep.
    """
    backend = ToyBackend(seed, deaths, failing, measured=measured)
    interrupts: Any = SimpleNamespace(signal=None)
    try:
        sweep(selector, slots, store, backend, interrupts, backend.clock, batches)
    except (SelectorError, StalledError) as error:
        raise AssertionError(str(error)) from error
    return store.log(names_of(selector)[0])


def _one_in_six(params: Any, stage: str, number: int) -> bool:
    """Some trials fail."""
    return is_trial(stage) and draw(params, stage, number, "fails") < 1 / 6


# -- the clauses ----------------------------------------------------------------------------------


def ends_and_stays_there(make: Make, most: int = MOST) -> None:
    """It ends, and then has no more trials, however often it is asked."""
    selector = make()
    drive(selector, most=most)
    for _ in range(3):
        assert not selector.has_more_trials(), "it had ended, and has more trials again"
        assert selector.get_next_trials() is None, "it had ended, and asks again"


def asks_alike_each_time(make: Make, most: int = MOST) -> None:
    """A new selector that is told the same asks the same."""
    assert drive(make(), most=most) == drive(make(), most=most), (
        "a new one that is told the same asks differently: its decisions depend on a clock, a "
        "global random state or something else outside it"
    )


def goes_on_after_failures(make: Make, most: int = MOST) -> None:
    """It ends if all points fail, or some."""
    drive(make(), failing=lambda _params: True, most=most)
    calls = itertools.count()
    drive(make(), failing=lambda _params: next(calls) % 3 == 0, most=most)


def depends_on_results_where_it_says_so(make: Make, most: int = MOST) -> None:
    """If it is not adaptive, it asks the same, whatever it is told."""
    failed = drive(make(), failing=lambda _params: True, most=most)
    assert make().adaptive or drive(make(), most=most) == failed, (
        "what it asks depends on results: set adaptive = True"
    )


def asks_the_same_on_any_number_of_slots(make: Make, _most: int = MOST) -> None:
    """In whole sweeps on 1, 2 and 8 cores its asks are the same; if adaptive, its tells, too."""
    for failing in (never, _one_in_six):
        logs = [
            _comparable(make(), simulate(make(), slots, memory(), seed=slots, failing=failing))
            for slots in SLOTS
        ]
        unsteady = simulate(make(), 2, memory(), seed=9, deaths=0.2, failing=failing)
        for log in (*logs[1:], _comparable(make(), unsteady)):
            assert log == logs[0], f"its asks differ between {SLOTS} slots, or when workers die"


def goes_on_where_it_was(make: Make, _most: int = MOST) -> None:
    """After a kill its log is replayed to a new selector, which then asks the same."""
    reference = _comparable(make(), simulate(make(), 2, memory()))
    for batches in (1, 4, 11):
        store = memory()
        before = simulate(make(), 2, store, batches=batches)
        log = simulate(make(), 1, store, seed=1)
        if make().adaptive:
            assert log[: len(before)] == before, "after a resume its log differs"
        assert _comparable(make(), log) == reference, "after a resume it asks differently"


CLAUSES: tuple[Callable[[Make, int], None], ...] = (
    ends_and_stays_there,
    asks_alike_each_time,
    goes_on_after_failures,
    depends_on_results_where_it_says_so,
    asks_the_same_on_any_number_of_slots,
    goes_on_where_it_was,
)
"""Each takes the selector's factory and the maximum number of asks."""


def _comparable(selector: ParamSelector, log: tuple[Asked | Told, ...]) -> list[Any]:
    """The part of a log that must be the same: without tells if not adaptive."""
    if selector.adaptive:
        return list(log)
    return [entry for entry in log if isinstance(entry, Asked)]
