"""Seeds of `tests.simulate`: none finds a violation, unless the driver acts before it writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulate import Violation, simulate, simulate_many

SEEDS = 200
"""`make simulate` takes 10,000."""


def test_no_fault_breaks_a_promise():
    found = simulate_many(range(SEEDS))
    again = [f"python -m tests.simulate --seed {seed}" for seed in found]
    assert not found, "\n".join(again[:10])


def test_a_driver_that_acts_before_it_writes_is_found_out():
    """Without this the test above might be looking at nothing."""
    found = simulate_many(range(200), bug=True)
    assert any("durable" in what for what in found.values())


def test_a_seed_replays_exactly():
    for seed in range(20):
        assert simulate(seed) == simulate(seed)


def test_a_violation_says_what_happened_and_the_command_line_replays_it():
    seed = next(iter(simulate_many(range(50), bug=True)))
    with pytest.raises(Violation) as caught:
        simulate(seed, bug=True)
    assert "Scenario(" in caught.value.__notes__[0]
    replayed = subprocess.run(
        [sys.executable, "-m", "tests.simulate", "--seed", str(seed), "--bug"],
        check=False,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert replayed.returncode == 1
    assert str(caught.value) in replayed.stderr


def test_the_seeds_meet_every_kind_of_fault():
    """A change of `Scenario` that leaves something out is seen here."""
    ends, scenarios = [], []
    for seed in range(30):
        scenario, *lines = simulate(seed)
        scenarios.append(scenario)
        ends += lines
    for fault in ("was killed", "could not write", "was interrupted", "stopped:"):
        assert any(fault in line for line in ends), fault
    text = "\n".join(scenarios)
    for what in (
        "hangs=True",
        "fails=True",
        "deaths=0.3",
        "strangers=0.1",
        "Gambler",
        "spare=True",
    ):
        assert what in text, what
    for what in ("program=True", "segment=1", "segment=4", "budget=6"):
        assert what in text, what
    saved = [line for line in ends if "went on from what" in line]
    assert any(not line.startswith("0 ") for line in saved), "no trial went on from a save"
