"""`profile=True`: where the time of trials goes."""

from __future__ import annotations

import pstats

import pytest

import profiled_program
import sweeper
from sweeper.errors import SettingsError
from sweeper.store.paths import Paths
from sweeper.store.results.profiles import write_profile


def run(objective, folder, **options):
    options = {"trials": 2, "backend": "inline", "progress": False, **options}
    return sweeper.sweep(objective, [{"x": 3}, {"x": 4}], folder=folder, **options)


def calls(text, function):
    """The calls and seconds that a table has for a function."""
    (line,) = (line for line in text.splitlines() if f"({function})" in line)
    return line.split()[:3]


def test_each_trial_has_a_profile_and_all_together_have_a_table(tmp_path):
    run(profiled_program.objective, tmp_path, profile=True)
    text = (tmp_path / "profile.txt").read_text()
    assert text.startswith("4 trials, ")
    assert calls(text, "step")[0] == str(2 * (3 + 4))
    assert calls(text, "objective")[0] == "4"
    own = tmp_path / "points/1/trials/0"
    rows = [line.rsplit(",", 3) for line in (own / "profile.csv").read_text().splitlines()]
    assert rows[0] == ["function", "calls", "own_seconds", "seconds"]
    assert [row[1] for row in rows if "(step)" in row[0]] == ["4"]
    stats = pstats.Stats(str(own / "profile.pstats"))
    assert {name for _, _, name in stats.stats} >= {"step", "objective"}


def test_a_generator_is_profiled_while_it_is_iterated_also_where_it_raises(tmp_path):
    results = run(profiled_program.raises_at_the_end, tmp_path, profile=True, trials=1)
    assert len(results.failures) == 2
    assert calls((tmp_path / "profile.txt").read_text(), "step")[0] == str(3 + 4)


def test_without_it_there_is_none_and_a_problem_has_none(tmp_path):
    run(profiled_program.objective, tmp_path)
    assert not list(tmp_path.rglob("profile*"))
    with pytest.raises(SettingsError, match="profile=True: profile= goes with a program"):
        sweeper.sweep("blobs", [{"hidden": 2}], folder=tmp_path / "f", profile=True)


def test_the_table_is_a_view_and_goes_with_the_sweep(tmp_path):
    run(profiled_program.objective, tmp_path / "f", profile=True)
    path = tmp_path / "f/profile.txt"
    text = path.read_text()
    path.unlink()
    (tmp_path / "f/points/0/trials/1/profile.csv").write_text("no table")
    write_profile(Paths(tmp_path / "f"))
    assert path.read_text() != text
    run(profiled_program.objective, tmp_path / "f", resume=False)
    assert not path.exists()
    assert sweeper.open(tmp_path / "f").remove(ask=False)
    assert not (tmp_path / "f").exists()
