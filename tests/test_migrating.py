"""What users of ignite-simple know: their keywords, their points, and the page that says how."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import blobs
import sweeper
from sweeper.errors import SelectorError, SettingsError, UsageError
from sweeping import replicas_started, run

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "migrating").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path):
    shutil.copy(ROOT / "tests" / "blobs.py", tmp_path / "mymodule.py")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "What can be said" in found.stdout


def test_old_keywords_are_accepted_and_the_new_ones_named(tmp_path):
    with pytest.warns(DeprecationWarning, match="pts= is called points= here"):
        selector = sweeper.FixedSweep.with_fixed_trials(pts=[[2]], trials=1)
    with pytest.warns(DeprecationWarning, match="is called") as said:
        results = sweeper.sweep(
            module_name="blobs",
            param_selector=selector,
            sweep_cores=2,
            hparams=blobs.QUICK,
            folder=tmp_path,
            backend="inline",
            progress=False,
        )
    assert sorted(str(one.message) for one in said) == [
        "module_name= is called module= here",
        "param_selector= is called selector= here",
        "sweep_cores= is called cores= here",
    ]
    ((params, *_),) = results
    assert params == (2,)
    with pytest.raises(UsageError, match=r"pts and points are the same argument: give points"):
        sweeper.FixedSweep.with_fixed_trials(pts=[], points=[], trials=1)


class Endless(sweeper.ParamSelector):
    most_untold = 50

    def get_next_trials(self):
        return [2], 1

    def has_more_trials(self):
        return True


def test_a_selector_that_never_ends_is_stopped(tmp_path):
    assert sweeper.ParamSelector.most_untold == 100_000
    with pytest.raises(SelectorError, match=r"Endless has asked 51 times .* adaptive = True"):
        run(tmp_path, Endless())


@pytest.mark.slow
def test_a_module_is_a_command_line(tmp_path):
    program = tmp_path / "mine.py"
    program.write_text((ROOT / "tests" / "blobs.py").read_text() + "\nsweeper.main(__name__)\n")
    quick = ("--set", "cycle_epochs=1", "--set", "cycles=1", "--hparams", "fastest", "--quiet")

    def said(*arguments):
        found = subprocess.run(
            [sys.executable, str(program), *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        return found.stdout

    swept = said("--grid", "hidden=2,3", "--trials", "2", *quick)
    assert "hidden=2" in swept
    assert "hidden=3" in said("show", "out/mine")


def test_nothing_happens_where_the_module_is_imported():
    assert sweeper.main("mine") is None


def test_initialisations_and_cores_of_tuning_are_two_things(tmp_path):
    point = sweeper.FixedSweep.with_fixed_trials([(2,)], 1)
    run(tmp_path / "both", point, cores=2)
    again = sweeper.FixedSweep.with_fixed_trials([(2,)], 1)
    apart = run(tmp_path / "both", again, cores=1, tuning_inits=2)  # the same folder
    assert len(apart[0].perf_val) == 1
    numbers = {n for _, stage, n in replicas_started(tmp_path / "both") if stage == "lr_range"}
    assert numbers == {0, 1}
    with pytest.raises(SettingsError, match=r"tuning_inits=0: .* from 1 to 100,000"):
        run(tmp_path / "none", again, tuning_inits=0)
