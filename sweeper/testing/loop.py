"""A sweep of the made-up problem through the real loop, with any backend."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from sweeper.run.backends import Backend
from sweeper.run.dispatch import dispatch
from sweeper.run.scheduler import Scheduler
from sweeper.run.signals import Interrupts
from sweeper.search import ParamSelector
from sweeper.search.names import names_of
from sweeper.store.database import Store
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
) -> None:
    """What `sweeper.sweep` does once its folder is open, or goes on with.

    Args:
        selector: Asks.
        slots: How many workers there are.
        store: Takes what comes of it.
        backend: Runs the jobs.
        interrupts: What `wait` of the backend is given.
        clock: Seconds, for what is written down and for what has passed.
        batches: After so many batches of events all is dropped; None: it ends by itself.

    Raises:
        SelectorError: the selector raised, or broke its protocol.
        StalledError: nothing can start, and the selector is not done.
    """
    name = names_of(selector)[0]
    recorded = store.recorded(name, log=selector.adaptive)
    study = Study(selector, ToyPlan(), point_of, most_cores=4, slots=slots, recorded=recorded)
    store.begin(study.begin(), name, keep_log=selector.adaptive)
    loop = dispatch(study, Scheduler(slots), backend, interrupts, clock, clock)
    for events in itertools.islice(loop, batches):
        store.append(events)
        store.append(study.tell(events))
    if batches is None:
        study.check_stalled()
