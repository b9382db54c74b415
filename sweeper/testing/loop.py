"""A sweep of the made-up problem through the real loop, with any backend."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from sweeper.run.backends import Backend
from sweeper.run.dispatch import dispatch
from sweeper.run.processes.signals import Interrupts
from sweeper.run.scheduler import Scheduler
from sweeper.search import ParamSelector
from sweeper.search.reading.names import names_of
from sweeper.settings import StopWhen
from sweeper.store.database.store import Store
from sweeper.study import Study
from sweeper.testing.toy import ToyPlan, point_of


def memory() -> Store:
    """A new folder's database, in memory."""
    return Store.open(Path(":memory:"))


def sweep(
    selector: ParamSelector,
    slots: int,
    store: Store,
    backend: Backend,
    interrupts: Interrupts,
    clock: Callable[[], float],
    batches: int | None = None,
    stop_when: StopWhen | None = None,
    *,
    spare_trials: bool = False,
) -> None:
    """Run a sweep as `sweeper.sweep` does once its folder is open.

    Args:
        selector: Asks for trials.
        slots: Number of workers.
        store: Stores the events.
        backend: Runs the jobs.
        interrupts: Passed to the backend's `wait`.
        clock: Seconds, both for recorded times and for durations.
        batches: Stop abruptly after this many batches of events; None: run to the end.
        stop_when: When it has enough.
        spare_trials: Whether idle slots run further trials.

    Raises:
        SelectorError: the selector raised, or broke its protocol.
        StalledError: nothing can start, and the selector is not done.
    """
    name = names_of(selector)[0]
    recorded = store.recorded(name, log=selector.adaptive)
    study = Study(
        selector,
        ToyPlan(),
        point_of,
        most_cores=4,
        slots=slots,
        recorded=recorded,
        stop_when=stop_when,
        began=clock(),
        spare_trials=spare_trials,
    )
    begun = study.begin()
    store.begin(begun, name, keep_log=selector.adaptive, compare_by=selector.compare_by)
    loop = dispatch(study, Scheduler(slots), backend, interrupts, clock, clock)
    for events in itertools.islice(loop, batches):
        store.append(events)
        store.append(study.tell(events))
    if batches is None and not study.stop_reason:
        study.check_stalled()
