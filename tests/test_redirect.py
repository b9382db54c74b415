"""What a trial of a program prints: where it goes, whole, and told where the trial fails."""

from __future__ import annotations

import contextlib
import os
import subprocess

import pytest

import printing
import sweeper
from sweeper.errors import SettingsError
from sweeper.program.records import redirect
from sweeper.program.records.redirect import Output, check_redirect
from sweeping import python


def run(objective, folder, xs=(1, 2), **options):
    options = {"trials": 1, "total_cores": 1, "progress": False, **options}
    points = [{"x": x} for x in xs] if isinstance(xs, tuple) else xs
    return sweeper.sweep(objective, points, folder=folder, **options)


def texts(folder):
    """By path below `folder`: what all files of output hold."""
    found = [path for name in redirect.NAMES for path in folder.rglob(name)]
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(found)}


def expected(x):
    out = [f"from python {x}", f"from C {x}", f"from a child {x}", f"by number {x}"]
    return sorted(out), sorted([f"to errors {x}", f"its errors {x}"])


def lines(text):
    return sorted(text.splitlines())


def test_each_way_to_print_ends_in_the_files_of_the_trial(tmp_path):
    run(printing.prints, tmp_path, trials=2)
    found = texts(tmp_path)
    assert len(found) == 8
    for point, x in enumerate((1, 2)):
        for number in (0, 1):
            where = f"points/{point}/trials/{number}"
            out, err = (found[f"{where}/{name}"] for name in redirect.NAMES)
            assert (lines(out), lines(err)) == expected(x)
    assert "from" not in (tmp_path / "logs/worker-0.log").read_text()


def test_the_other_choices(tmp_path):
    folders = {}
    for choice in ("sweep", "both", "none"):
        folders[choice] = tmp_path / choice
        run(printing.prints, folders[choice], redirect=choice)
    all_out, all_err = (sorted(a + b) for a, b in zip(expected(1), expected(2), strict=True))
    for choice in ("sweep", "both"):
        found = texts(folders[choice])
        assert lines(found["logs/stdout.txt"]) == all_out
        assert lines(found["logs/stderr.txt"]) == all_err
        assert len(found) == (2 if choice == "sweep" else 6)
    assert texts(folders["none"]) == {}
    logs = folders["none"].glob("logs/worker-*.log")
    assert lines("".join(path.read_text() for path in logs)) == sorted(all_out + all_err)


def test_a_trial_that_prints_nothing_leaves_nothing(tmp_path):
    run(printing.silent, tmp_path)
    assert not list(tmp_path.rglob("trials/*"))
    assert texts(tmp_path) == {}


def test_a_failure_shows_the_last_lines(tmp_path):
    results = run(printing.raises, tmp_path, (1,))
    (failure,) = results.failures
    path = tmp_path / "points/0/trials/0"
    assert failure.message == "ValueError: no good"
    assert "Traceback" in failure.detail
    assert f"last lines of {path / 'stdout.txt'}:\nline 80\nline 81" in failure.detail
    assert failure.detail.endswith(f"last lines of {path / 'stderr.txt'}:\nthe reason\n")


def test_what_a_trial_that_dies_has_printed_is_in_its_failure_and_in_the_log(tmp_path):
    points = [{"x": 1, "mark": str(tmp_path / "mark")}, {"x": 2, "mark": str(tmp_path)}]
    results = run(printing.dies, tmp_path / "f", points, max_tries=1)
    (failure,) = results.failures
    assert failure.message == "the worker was ended by signal 9 (SIGKILL)"
    assert failure.detail.endswith("\nlast lines of its stderr:\nbefore the end 1\n")
    log = tmp_path / "f/logs/worker-0.log"
    assert f"what it printed is in {log}\n" in failure.detail
    assert log.read_text() == "before the end 1\n"
    assert list(log.parent.iterdir()) == [log]
    assert texts(tmp_path / "f") == {"points/1/trials/0/stderr.txt": "before the end 2\n"}


def test_a_trial_that_meddles_with_its_output_does_not_reach_the_next(tmp_path):
    results = run(printing.meddles, tmp_path, (1, 5, 2, 6, 3, 7, 4, 8))
    assert not results.failures
    found = texts(tmp_path)
    for point, x in enumerate((1, 5, 2, 6, 3, 7, 4, 8)):
        assert found[f"points/{point}/trials/0/stdout.txt"] == f"begins {x}\n"


def test_of_very_much_the_end_is_kept(tmp_path):
    # In a process of its own, since its output is moved.
    script = (
        "import sys, pathlib, printing\n"
        "from sweeper.program.records import redirect\n"
        "redirect.MOST_KEPT, redirect._END_KEPT = 10_000, 1_000\n"
        "own = pathlib.Path(sys.argv[1])\n"
        "output = redirect.Output('both', own / 'shared')\n"
        "with output.of(own / 'own'):\n"
        "    printing.prints_much(1)\n"
        "output.close()\n"
        "print('after')\n"
    )
    process = python("-c", script, str(tmp_path), stdout=subprocess.PIPE)
    assert process.communicate()[0] == "after\n"
    text = (tmp_path / "own/stdout.txt").read_text()
    assert text.startswith("[14004 bytes before this were too many to be kept]\n")
    assert text.endswith("much end\n")
    assert (tmp_path / "shared/stdout.txt").read_text() == text


def test_a_folder_of_links_is_not_written_to(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "own").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(sweeper.FolderError, match="symbolic link"),
        contextlib.closing(Output("trial", tmp_path)) as output,
        output.of(tmp_path / "own"),
    ):
        os.write(1, b"printed")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_choice_depends_on_the_backend(tmp_path):
    assert check_redirect(None, own_processes=True) == "trial"
    assert check_redirect(None, own_processes=False) == "none"
    with pytest.raises(SettingsError, match="redirect='file': choose one of 'trial', 'sweep'"):
        run(printing.silent, tmp_path, redirect="file")
    with pytest.raises(SettingsError, match="redirect='trial': this backend runs trials in"):
        run(printing.silent, tmp_path, redirect="trial", backend="inline")
    with pytest.raises(SettingsError, match="redirect='trial': redirect= goes with a program"):
        sweeper.sweep("blobs", [{"hidden": 2}], folder=tmp_path, redirect="trial")
