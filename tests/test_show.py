"""What a person sees, from results made by hand: no sweep, no terminal, no folder."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from rich.console import Console

from sweeper.records import Reference, Status
from sweeper.results import FailureReport, PointResult, PointTrials, SweepResult
from sweeper.settings import PRESETS
from sweeper.show.clean import clean, clean_line
from sweeper.show.doctor import Examined, judge
from sweeper.show.export import json_text
from sweeper.show.status import describe_settings, describe_status
from sweeper.show.table import failure_lines, failures_in_full, findings, results_table

EVIL = "\x1b]0;title\x07\x1b[31mred\x1b[0m\rover\x9b2Jwritten\u202e\x00"


def point(params, perf_val, *, loss=None, tuned=True):
    perf = np.array(perf_val, dtype=float)
    losses = np.full(len(perf), 0.5) if loss is None else np.array(loss, dtype=float)
    rates = (0.01, 0.5, 32) if tuned else (math.nan, math.nan, 0)
    return PointResult(params, *rates, perf, losses, perf, losses)


def sweep_of(*points, failures=(), notes=()):
    trials = [PointTrials.of(one, np.arange(len(one.perf_val))) for one in points]
    return SweepResult(trials, failures, notes)


def rows_of(results, width=None):
    console = Console(width=width or 500)
    with console.capture() as captured:
        console.print(results_table(results, width))
    return [line for line in captured.get().splitlines() if line.strip() and "──" not in line]


GOOD = point({"hidden": 32, "act": "Tanh"}, [0.95, 0.96, 0.97, 0.96])
NEAR = point({"hidden": 32, "act": "ReLU"}, [0.95, 0.96, 0.96, 0.96])
POOR = point({"hidden": 8, "act": "Tanh"}, [0.90, 0.91, 0.90, 0.91])


# -- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain ± ✓ 中", "plain ± ✓ 中"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;never ended", "52;c;never ended"),
        ("\x1bP1;2q...\x1b\\text", "text"),
        ("\x1b(B\x1bcreset", "reset"),
        ("\x9b2Jcleared", "cleared"),
        ("a\rb\bc\x7fd\x00e\x85f", "abcdef"),
        ("two\n\tlines", "two\n\tlines"),
        ("\u202etxt.exe\u2066", "txt.exe"),
        ("half \ud800", "half "),
        ("\x1b\x1b[31m[31m", "[31m"),
    ],
)
def test_what_a_terminal_would_obey_is_taken_out(text, cleaned):
    assert clean(text) == cleaned


def test_a_line_is_one_line_and_not_too_long():
    assert clean_line("one\n  two\x1b[A\r\nthree") == "one two three"
    assert clean_line("x" * 50, longest=10) == "xxxxxxxxx…"


# -- the table ------------------------------------------------------------------------------------


def test_the_table_marks_the_best_point_and_shows_its_interval():
    header, good, poor = rows_of(sweep_of(GOOD, POOR))
    assert header.split() == ["params", "learning", "rate", "batch", "n", "perf_val", "perf_train"]
    assert good.split()[:8] == ["★", "hidden=32", "act=Tanh", "0.01", "to", "0.5", "32", "4"]
    assert "0.9600 ± 0.0130" in good
    assert "★" not in poor


def test_a_narrow_table_leaves_perf_train_out():
    assert "perf_train" not in rows_of(sweep_of(GOOD, POOR), width=80)[0]


def test_diverged_and_failed_are_shown_where_there_are_any():
    diverged = point({"hidden": 1}, [0.5, 0.0], loss=[0.7, math.nan])
    untuned = point({"hidden": 2}, [], tuned=False)
    single = point({"hidden": 3}, [0.25])
    failure = FailureReport({"hidden": 2}, "lr_range", None, "no learning rate improves it", "")
    header, *rows = rows_of(sweep_of(diverged, untuned, single, failures=[failure]))
    assert header.split()[-2:] == ["diverged", "failed"]
    assert rows[0].split()[-2:] == ["1", "-"]
    assert rows[1].split() == ["hidden=2", "-", "-", "0", "-", "-", "-", "1"]
    assert rows[2].split()[-3:] == ["0.2500", "-", "-"]


def test_a_sweep_without_results_has_a_table_too():
    assert len(rows_of(sweep_of())) == 1
    assert findings(sweep_of()) == []
    assert len(rows_of(sweep_of(point((), [], tuned=False)))) == 2


def test_markup_and_escapes_in_parameters_are_only_text():
    params = {"a": f"[bold]{EVIL}", "b": ":smile:"}
    results = sweep_of(
        point(params, [0.5, 0.6]),
        GOOD,
        failures=[FailureReport(params, "trial", 3, EVIL, f"Traceback\n  {EVIL}")],
    )
    shown = "\n".join(
        [
            *rows_of(results),
            *findings(results),
            *failure_lines(results, "out/x"),
            failures_in_full(results),
        ]
    )
    assert "[bold]red over" in shown
    assert ":smile:" in shown
    assert not any(ord(character) < 32 and character != "\n" for character in shown)
    assert not {"\x9b", "\u202e"} & set(shown)


# -- what can be said -----------------------------------------------------------------------------


def test_a_difference_larger_than_its_interval_is_told_from_one_that_is_not():
    # The half widths are those of scipy.stats.ttest_ind(…, equal_var=False) at 1 - 0.05 / 3.
    header, near, poor, best = findings(sweep_of(POOR, GOOD, NEAR))
    assert header == (
        "What can be said in perf_val of these points as tuned, not of what another tuning would "
        "give (95 % for all together; one tuning and 4 trials a point):"
    )
    assert near == (
        "  hidden=32 act=Tanh and hidden=32 act=ReLU are not told apart (0.0025, -0.0145 to "
        "0.0195): too close for any reasonable number of trials"
    )
    assert poor == (
        "  hidden=32 act=Tanh is better than hidden=8 act=Tanh by 0.0550 (0.0379 to 0.0721)"
    )
    assert best == (
        "  ★ hidden=32 act=Tanh reached 0.9600, as the luckiest of 2 not told apart; its true mean "
        "is between 0.9429 and 0.9730"
    )


def test_more_comparisons_have_wider_intervals():
    def least_of_poor(*others):
        lines = findings(sweep_of(GOOD, POOR, *others))
        line = next(line for line in lines if "hidden=8" in line)
        return float(line.rpartition("(")[2].partition(" to")[0])

    more = [point({"hidden": n, "act": "Tanh"}, [0.5, 0.51, 0.52, 0.5]) for n in range(100, 105)]
    assert least_of_poor() > least_of_poor(*more)


def test_points_that_never_vary_are_not_said_to_differ_for_certain():
    lines = findings(sweep_of(point((1,), [1, 1]), point((2,), [1, 1]), point((3,), [0.5, 0.5])))
    assert "1 and 2 are not told apart (0.0000): no variation was seen" in lines[1]
    assert "1 and 3 are not told apart (0.5000): no variation was seen" in lines[2]


def test_one_trial_says_nothing():
    (line,) = findings(sweep_of(point((1,), [0.9]), point((2,), [0.5, 0.6])))
    assert line == "1 point with a single trial cannot be compared: two or more would tell"
    lines = findings(sweep_of(GOOD, POOR, point((1,), [0.1])))
    assert lines[-1].strip() == line


def test_a_point_alone_is_compared_with_nothing():
    assert findings(sweep_of(GOOD, point((1,), [], tuned=False))) == []


def test_many_comparisons_are_counted():
    others = [point((n,), [0.4, 0.41, 0.42 + n / 1000]) for n in range(30)]
    lines = findings(sweep_of(GOOD, *others))
    assert len(lines) == 13
    assert lines[-2] == "  and 20 more comparisons: 20 better"


def test_intervals_say_no_more_than_was_seen():
    rows = rows_of(
        sweep_of(
            point((1,), [1.0, 1.0, 1.0]),
            point((2,), [0.0014, 0.9]),
            point((3,), [0.999, 0.998, 0.999, 0.95]),
        )
    )
    assert "1.0000 (no variation seen)" in rows[1]
    assert "0.4507 (too few trials)" in rows[2]
    assert "0.9865 (0.7996" in rows[3]
    assert "to 0.99" in rows[3]


def test_a_point_that_could_not_be_tuned_is_neither_best_nor_compared():
    flag = "could not be tuned: no better than a constant prediction"
    best = PointTrials.of(
        point({"hidden": 99, "act": "Tanh"}, [0.99, 0.98, 0.99, 0.99]), np.arange(4), flag=flag
    )
    results = SweepResult([*sweep_of(GOOD, POOR).point_trials, best])
    assert results.best() is GOOD
    lines = findings(results)
    assert lines[-1] == f"  hidden=99 act=Tanh {flag}"
    assert sum("hidden=99" in line for line in lines) == 1


# -- failures -------------------------------------------------------------------------------------


def test_the_first_failures_are_listed_and_where_to_see_the_rest():
    failures = [
        FailureReport({"hidden": 32, "act": "Tanh"}, "trial", n, "ValueError: no", "Traceback …")
        for n in range(7)
    ]
    lines = failure_lines(sweep_of(GOOD, failures=failures), "out/my sweep")
    assert lines[0] == "7 failures:"
    assert lines[1] == "  hidden=32 act=Tanh · trial 0: ValueError: no"
    assert lines[-2] == "  and 2 more"
    assert lines[-1] == "  tracebacks: sweeper show 'out/my sweep' --failures"
    assert failures_in_full(sweep_of(GOOD, failures=failures)).count("    Traceback …") == 7


def test_without_failures_nothing_is_listed():
    assert failure_lines(sweep_of(GOOD), "out/x") == []
    assert failures_in_full(sweep_of(GOOD)) == "nothing failed"


# -- status ---------------------------------------------------------------------------------------


def test_status_says_what_is_known():
    failure = FailureReport(POOR.params, "trial", 4, "RuntimeError: boom", "")
    status = Status(
        folder="out/digits",
        identity={"problem": "digits", "seed": 3, "settings": settings_of("fast", cycles=1)},
        phases={"waiting": 0, "tuning": 1, "training": 2, "done": 3, "failed": 0},
        trials_done=9,
        trials_failed=1,
        trials_asked=24,
        driver="process 7 on box",
        began=1_000_000.0,
        last=1_000_060.0,
    )
    results = sweep_of(GOOD, POOR, failures=[failure], notes=["data: held in memory"])
    text = describe_status(status, results, now=1_000_600.0)
    fields = dict(line.split(maxsplit=1) for line in text.splitlines())
    fields = {name: " ".join(said.split()) for name, said in fields.items()}
    assert fields["problem"] == "digits"
    assert fields["settings"] == "fast, cycles=1"
    assert fields["seed"] == "3"
    assert fields["driven"] == "by process 7 on box"
    assert fields["points"] == "6: 1 tuning, 2 running, 3 done"
    rests = describe_status(dataclasses.replace(status, driver=None), results, now=1_000_600.0)
    assert "6: 3 unfinished, 3 done" in rests, "nothing runs without a driver"
    assert fields["trials"] == "9 of 24 done, 1 of them failed"
    assert fields["began"].endswith("(10 min ago)")
    assert "9 min ago" in fields["last"]
    assert fields["best"] == "so far hidden=32 act=Tanh 0.9600 ± 0.0130 (4 trials)"
    assert "data: held in memory" in text
    assert "RuntimeError: boom" in text


def test_status_of_a_folder_in_which_nothing_has_happened():
    status = Status("out/x", {}, dict.fromkeys(["done"], 0), 0, 0, 0, None, None, None)
    text = describe_status(status, sweep_of(), now=5.0)
    assert "no process at the moment" in text
    assert "none asked for yet" in text
    assert "not known yet" in text


def settings_of(preset, **changes):
    fields = {name: getattr(PRESETS[preset], name) for name in PRESETS[preset].__slots__}
    return {**fields, "cores": 4, "cores_per_trial": 1, **changes}


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_are_said_as_the_nearest_preset(preset):
    assert describe_settings(settings_of(preset)) == preset
    changed = settings_of(preset, cores=2, warmup_pts=3)
    assert describe_settings(changed) == f"{preset}, warmup_pts=3, cores=2"


def test_a_length_in_samples_differs_from_one_in_epochs():
    assert describe_settings(settings_of("fast", lr_sweep_len=6)) == "fast, lr_sweep_len=6"


# -- export ---------------------------------------------------------------------------------------


def test_a_row_a_trial():
    rows = sweep_of(GOOD, point((3, "x"), [0.5]), point({"trial": 9}, [0.25])).rows()
    assert len(rows) == 6
    assert rows[0] == {
        "hidden": 32,
        "act": "Tanh",
        "trial": 0,
        "tuning": 0,
        "lr_min": 0.01,
        "lr_max": 0.5,
        "batch_size": 32,
        "perf_train": 0.95,
        "loss_train": 0.5,
        "perf_val": 0.95,
        "loss_val": 0.5,
    }
    assert (rows[4]["param_0"], rows[4]["param_1"]) == (3, "x")
    assert (rows[5]["param_trial"], rows[5]["trial"]) == (9, 0)


def test_json_holds_everything_and_is_strict():
    params = {"act": Reference("torch.nn:Tanh"), "sizes": (1, math.inf), "deep": {1: None}}
    results = sweep_of(
        point(params, [0.5, 0.0], loss=[0.7, math.nan]),
        point((2,), [], tuned=False),
        failures=[FailureReport((2,), "lr_range", None, "flat", "why")],
        notes=["a note"],
    )
    text = json_text({"problem": "toy", "seed": 0, "settings": {"cores": 4}}, results)
    read = json.loads(text, parse_constant=pytest.fail)
    first, second = read["points"]
    assert first["params"] == {"act": "torch.nn:Tanh", "sizes": [1, "inf"], "deep": {"1": None}}
    assert first["loss_val"] == [0.7, None]
    assert first["trial_numbers"] == [0, 1]
    assert first["summary"]["diverged"] == 1
    assert first["summary"]["perf_val"]["mean"] == 0.25
    assert second["lr_min"] is None
    assert second["params"] == [2]
    (failure,) = read["failures"]
    assert (failure["params"], failure["stage"], failure["number"]) == ([2], "lr_range", None)
    assert (failure["message"], failure["detail"]) == ("flat", "why")
    assert (failure["budget"], failure["group"]) == (None, "")
    assert (read["problem"], read["seed"], read["notes"]) == ("toy", 0, ["a note"])


# -- doctor ---------------------------------------------------------------------------------------


def examined(**changes):
    usual = {"slot": 1, "cores": (2,), "threads_promised": 1, "mask": {2}, "threads": 1}
    usual |= {"ran_on": {2}} | changes
    return Examined(
        **{
            name: frozenset(value) if isinstance(value, set) else value
            for name, value in usual.items()
        }
    )


def test_a_worker_that_is_as_promised():
    assert judge(examined()) == ("worker 1: pinned to core 2 (mask {2}), 1 thread - ok", True)
    wide = examined(cores=(2, 3), mask={2, 3}, threads_promised=2, threads=2, ran_on={3})
    assert judge(wide) == ("worker 1: pinned to cores 2, 3 (mask {2, 3}), 2 threads - ok", True)
    line, well = judge(examined(cores=(), mask=set(), ran_on=set()))
    assert well
    assert "not pinned" in line


@pytest.mark.parametrize(
    "changes", [{"mask": {1, 2}}, {"mask": {1}}, {"ran_on": {0, 2}}, {"threads": 2}]
)
def test_a_worker_that_is_not_as_promised(changes):
    line, well = judge(examined(**changes))
    assert not well
    assert "NOT AS PROMISED: it " in line
