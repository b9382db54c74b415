"""Progress where jobs take several slots: what each slot does, and the time that is left."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sweeper.pace import seconds_left
from sweeper.records import Started
from sweeper.run.dispatch import dispatch
from sweeper.run.scheduler import Scheduler
from sweeper.store.identity import OF_EACH_POINT
from sweeper.store.progress import read_progress
from sweeper.store.results.load import read_results
from sweeper.study import Study
from sweeper.testing.loop import memory
from sweeper.testing.toy import ToyBackend, ToyPlan, point_of
from tests.toys import Listed


def wide(params):
    """One point has three cores."""
    return point_of(params)._replace(width=3 if params == (1,) else 1)


def moments():
    """For each batch of a sweep: the progress by the study and by the folder, and what started."""
    store, backend = memory(), ToyBackend(seconds=(2.0,))
    study = Study(Listed([((0,), 3), ((1,), 3)]), ToyPlan(), wide, most_cores=4, slots=4)
    store.begin(study.begin(), "Listed", keep_log=False)
    store.set_meta({"identity": {"settings": {"cores_per_trial": OF_EACH_POINT}}})
    store.add_event(backend.now, "opened", {"slots": [[0], [1], [2], [3]]})
    scheduler, interrupts = Scheduler(4), SimpleNamespace(signal=None)
    for events in dispatch(study, scheduler, backend, interrupts, backend.clock):
        store.append(events)
        store.append(study.tell(events))
        starts = [event for event in events if isinstance(event, Started)]
        folder = read_progress(store, read_results(store), "running", None, backend.now)
        yield study.progress(), folder, starts, scheduler


def test_the_further_slots_of_a_job_are_shown_with_its_worker():
    seen = set()
    for study, folder, _, scheduler in moments():
        assert study.running == folder.running
        shown = dict(one[:2] for one in study.running)
        assert len(shown) == 4 - scheduler.idle_slots
        seen |= {(slot, text) for slot, text in shown.items() if "with worker" in text}
    assert {(slot, text) for slot, text in seen if slot} == seen
    assert any(text.startswith("with worker") for _, text in seen)


def test_a_wide_trial_that_is_left_counts_for_each_of_its_slots():
    given = {"trials_ended": 2, "trial_seconds": 8.0, "untuned": 0, "tuned": 2}
    given |= {"tuning_seconds": 0.0, "slots": 4}
    assert seconds_left(slots_left=6, **given) == pytest.approx(6.0)
    last = None
    for study, folder, *_ in moments():
        if study.trials_done == 5:  # 1 trial is left, of three slots or of one
            last = study.seconds_left
            left = {1: 2.0 / 4, 3: 3 * 2.0 / 4}
            assert last in left.values()
            assert folder.seconds_left is not None
    assert last is not None
