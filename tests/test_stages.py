"""What folders keep of a stage is read, and written as it was."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.records import (
    CHECK,
    CHOOSE_MODE,
    COMPILED,
    DESCRIBE,
    EAGER,
    PACKED,
    TRIAL,
    Rejected,
    Running,
    Step,
    Tuned,
    TunedSettings,
)
from sweeper.store.results.tuned import TrialSettings
from sweeper.train.tuning.names import BATCH_CHOICE, BATCH_RANGE, LADDER, LR_RANGE, LR_RESCAN
from sweeper.train.tuning.stages import ChooseMode, ChooseModes, LadderRound, read, tuned
from sweeper.train.tuning.trials import ExecutionMode, Trial, Trials
from sweeper.train.tuning.tried import Candidate

FOLDERS = sorted(path.parent for path in Path(__file__).parent.glob("data/*/sweep.db"))


def stored(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The stage and the payload of each step that a folder keeps, but of failures."""
    uri = f"{(folder / 'sweep.db').as_uri()}?mode=ro&immutable=1"
    with sqlite3.connect(uri, uri=True) as connection:
        for (text,) in connection.execute("SELECT step FROM decisions ORDER BY seq"):
            step = json.loads(text)
            if step["error"] is None:
                yield step["stage"], step["payload"]


def same(stage: str, payload: dict[str, Any]) -> None:
    """Keys in their order, and values of their types."""
    plain = json.loads(json.dumps(payload))
    assert json.dumps(read(stage, plain).payload()) == json.dumps(plain)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_what_earlier_releases_stored_is_written_as_it_was(folder):
    kinds = set()
    for stage, payload in stored(folder):
        same(stage, payload)
        kinds.add(type(read(stage, payload)))
    assert len(kinds) >= 4


# -- every payload that a plan may make, and those that lack what later ones have -----------------

RATES = st.floats(1e-9, 1e3) | st.integers(1, 5)
COUNTS = st.integers(1, 10**6)
LOSSES = st.none() | st.floats(-10, 10)
TEXTS = st.text(max_size=5)
MODE_TEXTS = {
    "way": st.sampled_from([EAGER, PACKED, COMPILED]),
    "because": TEXTS,
    "tape": TEXTS,
    "toolchain": TEXTS,
    "later": st.sampled_from(["", COMPILED]),
}
SCHEDULES = st.sampled_from(["triangular", "one_cycle", "cosine", "constant"])
WARM_UP = {"warmup_lr": RATES, "warmup_batch": COUNTS, "warmup_steps": st.integers(0, 9)}
FOUND = {"lr_min": RATES, "lr_max": RATES, "lr_batch": COUNTS}


def payloads(needed: dict[str, Any], optional: dict[str, Any]) -> Any:
    """Payloads that have some of the optional keys, all in the order in which they are stored."""
    order = [*needed, *optional]
    made = st.fixed_dictionaries(needed, optional=optional)
    return made.map(lambda found: {key: found[key] for key in order if key in found})


SETTINGS = {
    "lr_start": RATES,
    "lr_end": RATES,
    "batch_size": COUNTS,
    "cycle_epochs": COUNTS,
    "cycles": COUNTS,
    "steps": COUNTS,
}
OWN = {"schedule": SCHEDULES, "warmup": st.floats(0, 0.5), "for_probes": st.booleans()}
OPTIONS = st.dictionaries(st.sampled_from(["weight_decay", "momentum"]), st.floats(0, 1))
TRIALS = payloads(SETTINGS, OWN | {"expected": LOSSES, "options": OPTIONS} | MODE_TEXTS)
MODES = st.dictionaries(COUNTS.map(str), payloads({}, MODE_TEXTS), max_size=2)
CANDIDATES = st.tuples(RATES, COUNTS).map(list)


@st.composite
def several(draw: st.DrawFn) -> dict[str, Any]:
    """Trials of several tunings, of which the first is told once more."""
    tunings = draw(st.lists(TRIALS, min_size=1, max_size=3))
    return {**tunings[0], "tunings": tunings, "constant": draw(st.floats(-9, 9))}


@st.composite
def rounds(draw: st.DrawFn) -> dict[str, Any]:
    needed = {"round": st.integers(0, 3), "ways": MODES, "constant": LOSSES}
    lists = st.none() | st.lists(LOSSES, min_size=1, max_size=2)
    chosen = st.none() | st.lists(st.none() | CANDIDATES, min_size=1, max_size=2)
    optional = {"lowered": st.integers(0, 2), "chosen": chosen, "expected": lists}
    rest = {
        "candidates": st.lists(st.lists(CANDIDATES, max_size=3), min_size=1, max_size=2),
        "inits": st.integers(1, 3),
        "lengths": st.dictionaries(COUNTS.map(str), COUNTS, min_size=1, max_size=2),
        "cycles": st.integers(1, 4),
    }
    shape = {"schedule": SCHEDULES, "warmup": st.floats(0, 0.5)}
    parts = payloads(needed, optional), payloads(rest, shape), payloads({"steps": COUNTS}, {})
    return {key: value for part in parts for key, value in draw(part).items()}


def told() -> Any:
    return payloads(
        {"tunings": st.lists(TRIALS, max_size=2), "constant": LOSSES, "ways": MODES}, {}
    )


SPAN = {"lr_start": RATES, "lr_end": RATES, "batch_size": COUNTS, "steps": COUNTS}
RANGE = {
    "spacing": st.sampled_from(["linear", "log"]),
    "lowered": st.integers(0, 8),
    "extended": st.booleans(),
    **SPAN,
    **WARM_UP,
}
OPTION_ROUND = {
    "option": TEXTS,
    "values": st.lists(RATES, min_size=1, max_size=3),
    "rates": st.lists(st.lists(RATES, max_size=3), max_size=2),
    "tunings": st.lists(TRIALS, max_size=2),
    "constant": LOSSES,
    "ways": MODES,
    "inits": st.integers(1, 3),
    "lengths": st.dictionaries(COUNTS.map(str), COUNTS, min_size=1, max_size=2),
    "cycles": st.integers(1, 2),
    "steps": COUNTS,
}
SIZES = {"batch_start": COUNTS, "batch_end": COUNTS, "samples": COUNTS, "steps": COUNTS}
CHOICE = {
    "sizes": st.lists(COUNTS, min_size=1, max_size=3),
    "inits": st.integers(1, 3),
    "cycle_epochs": COUNTS,
    "range_diverged": st.booleans(),
    "steps": COUNTS,
}
KINDS = {
    CHECK: payloads({"batch_size": COUNTS, "steps": COUNTS}, {}),
    DESCRIBE: payloads(
        {"batch_size": COUNTS, "untuned": st.booleans()}, {"options": st.lists(TEXTS)}
    ),
    f"{CHOOSE_MODE} of one": payloads({"trial": TRIALS}, {}),
    CHOOSE_MODE: payloads({"trials": st.lists(TRIALS, min_size=1, max_size=2)}, {"told": told()}),
    LADDER: rounds(),
    "weight_decay": payloads(OPTION_ROUND, {}),
    LR_RANGE: payloads(RANGE, {}),
    LR_RESCAN: payloads(RANGE, {}),
    BATCH_RANGE: payloads(FOUND | SIZES | WARM_UP, {}),
    BATCH_CHOICE: payloads(FOUND | CHOICE, {}),
    TRIAL: TRIALS | several(),
}


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_every_payload_is_written_as_it_was_read(kind, data):
    payload = data.draw(KINDS[kind])
    stage = kind.partition(" ")[0]
    same(stage, payload)
    if stage != TRIAL:
        same(f"{stage}.2", payload)


@given(KINDS[TRIAL])
def test_the_store_reads_of_trials_what_was_written(payload):
    told, found = Trials.read(payload), TrialSettings.read(payload)
    first, tunings = told.first, told.tunings
    assert (found.cycles, found.epochs) == (first.cycles, first.cycles * first.cycle_epochs)
    assert (found.mode, found.because) == (first.mode.kind, first.mode.because or "")
    assert found.tunings == tuple(
        TunedSettings(one.lr_start, one.lr_end, one.batch_size, **one.options or {})
        for one in tunings
    )
    assert found.constant == told.constant
    known = [one.expected for one in tunings if one.expected not in (None, math.inf)]
    assert list(found.expected) == known
    assert not found.untuned
    assert TrialSettings.read(payload | {"own": {"constant": 0.5}}).untuned


# -- what is read ---------------------------------------------------------------------------------

SETTLED = {"lr_start": 1, "lr_end": 8, "batch_size": 4, "cycle_epochs": 2, "cycles": 1, "steps": 6}


def test_keys_that_earlier_releases_lack_have_defaults():
    earlier = {
        "round": 1,
        "ways": {"8": {"way": PACKED, "tape": "a"}},
        "constant": 0.5,
        "candidates": [[[0.25, 8]]],
        "inits": 2,
        "lengths": {"8": 20},
        "cycles": 2,
        "steps": 20,
    }
    told = LadderRound.read(earlier)
    assert told.modes == {8: ExecutionMode(PACKED, trace="a")}
    assert told.candidates == ((Candidate(0.25, 8),),)
    assert [(probe.schedule, probe.warmup) for probe in told.probes()] == [("triangular", 0.0)] * 2
    assert Trials.read(SETTLED).of(7) == Trial.read(SETTLED)
    assert not Trial.read(SETTLED).mode.is_packed


def test_which_stage_chooses_the_mode_shows_in_its_payload():
    assert read(CHOOSE_MODE, {"trial": SETTLED}) == ChooseMode(Trial.read(SETTLED))
    assert read(f"{CHOOSE_MODE}.1", {"trials": [SETTLED]}) == ChooseModes((Trial.read(SETTLED),))


def test_what_a_job_adds_is_no_part_of_a_stage():
    assert read(TRIAL, {**SETTLED, "params": "[]", "id": 3}) == read(TRIAL, SETTLED)


def test_a_key_that_every_release_stored_is_missed():
    with pytest.raises(KeyError, match="steps"):
        read(CHECK, {"batch_size": 8})
    with pytest.raises(KeyError, match="nothing"):
        read("nothing", {})


def test_where_tuning_ends_its_first_settings_are_what_was_found():
    step = tuned(Trials(Trial.read(SETTLED)))
    assert (step.stage, step.payload) == (TRIAL, SETTLED)
    assert (step.found.lr_min, step.found.lr_max, step.found.batch_size) == (1, 8, 4)


@pytest.mark.parametrize(
    "state",
    [
        Running("lr_range.1", 3, {"steps": 10}),
        Tuned(TunedSettings(0.1, 0.2, 8), {"steps": 10}),
        Rejected("lr_range", "lr_range 2: no"),
    ],
)
def test_a_step_is_kept_as_it_stands(state):
    assert Step.of(state).state == state
