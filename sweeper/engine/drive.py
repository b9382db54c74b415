"""The main loop: each batch of events is stored, then told to the study, then shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from sweeper.records import Finished, Interrupted, Outcome
from sweeper.run.backends import Backend
from sweeper.run.dispatch import dispatch
from sweeper.run.machine.devices import DeviceWatch
from sweeper.run.processes.signals import Interrupts
from sweeper.run.scheduler import Scheduler
from sweeper.show.progress import View
from sweeper.store.database.store import Store
from sweeper.study import Study


def drive(
    study: Study,
    scheduler: Scheduler,
    backend: Backend,
    interrupts: Interrupts,
    store: Store,
    view: View,
    clock: Callable[[], float] = time.time,
    ticks: Callable[[], float] = time.monotonic,
    tidy: Callable[[Iterable[Outcome]], None] = lambda _outcomes: None,
    devices: DeviceWatch | None = None,
) -> bool:
    """Drive a study that has begun until nothing runs and nothing can start.

    `clock` gives the time of day, `ticks` measures durations (see `dispatch`); `tidy` is told of
    outcomes once they are durable; `devices` says which may be dealt out.  When this returns or
    raises, the last decisions may not be durable yet.

    Returns:
        Whether it was interrupted.

    Raises:
        ProblemError: the check of the sweep's first point failed.
        SelectorError: the selector raised.
        StoppedError: too much has failed to go on.
        BackendError: no device has room for a trial (see `DeviceWatch`).
    """
    interrupted = False
    for events in dispatch(study, scheduler, backend, interrupts, clock, ticks, devices):
        store.append(events)
        tidy(event.outcome for event in events if isinstance(event, Finished))
        store.decide(study.tell(events))
        view.update(study.progress())
        study.check_failures()
        if any(isinstance(event, Interrupted) for event in events):
            interrupted = True
            view.note("stopping: finished work is kept")
    return interrupted
