"""What is shown while a sweep runs."""

import io

import pytest
from rich.console import Console

from sweeper.records import Best, FolderProgress, Progress
from sweeper.show.progress import (
    LineView,
    LiveView,
    NoView,
    describe,
    draw,
    make_view,
    show_duration,
)

HALF = Progress(
    tuning=1,
    training=2,
    done=3,
    failed=1,
    waiting=4,
    trials_done=10,
    trials_failed=2,
    trials_asked=40,
    running=((0, "hidden=8 · trial 3", 90.0),),
    slots=2,
    best=Best({"hidden": 8, "name": "a\x1b[31mred"}, 0.91234, 5),
    seconds_left=750.0,
)


def test_a_line_says_how_far_it_is():
    line = describe(HALF)
    for part in ("trials 10/40", "1 tuning, 2 running, 3 done of 11", "about 12 min left"):
        assert part in line
    assert "hidden=8 name=ared 0.9123" in line
    assert "failed: 1 points, 2 trials" in line


def test_nothing_is_said_to_run_in_a_sweep_that_rests():
    folder = {"folder": "out", "workload": "toy", "driver": None, "seen": 9.0, "last": None}
    found = {**fields(HALF), **folder, "trials_per_hour": None}
    assert "3 unfinished, 3 done of 11" in describe(FolderProgress(**found, state="resting"))
    assert "1 tuning, 2 running, 3 done" in describe(FolderProgress(**found, state="running"))


def test_the_table_says_what_each_worker_does():
    console = Console(file=io.StringIO(), width=100)
    console.print(draw(HALF, now=100.0))
    text = console.file.getvalue()
    for part in ("10 of 40", "4 waiting, 1 tuning", "hidden=8 · trial 3", "10 s", "idle"):
        assert part in text
    assert "\x1b" not in text


def test_plain_lines_come_now_and_then_and_once_more_at_the_end():
    now = [0.0]
    stream = io.StringIO()
    with LineView(stream, lambda: now[0]) as view:
        view.update(HALF)
        now[0] = 5.0
        view.update(Progress(**{**fields(HALF), "trials_done": 11}))
        view.update(Progress(**{**fields(HALF), "trials_done": 12}))
        view.note("a\x1b[2Jnote")
    lines = [line.split("  ", 1)[1] for line in stream.getvalue().splitlines()]
    assert [line.split(";")[0] for line in lines] == ["trials 10/40", "anote", "trials 12/40"]


def test_the_live_view_ends_with_a_line():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LiveView(console, lambda: 100.0) as view:
        view.update(HALF)
        view.note("noted")
    text = console.file.getvalue()
    assert "noted" in text
    assert describe(HALF)[:60] in text


def test_a_view_is_chosen_by_what_it_is_shown_on():
    assert isinstance(make_view(progress=False), NoView)
    assert isinstance(make_view(None, io.StringIO()), LineView)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (7500, "2 h 05 min")]
)
def test_durations(seconds, shown):
    assert show_duration(seconds) == shown


def fields(progress):
    return {name: getattr(progress, name) for name in Progress.__dataclass_fields__}
