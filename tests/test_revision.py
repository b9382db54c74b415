"""An edit of the problem's code: which points it concerns, and what becomes of them."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
import zlib

import pytest
import torch
from torch import nn

import blobs
import sweeper
from sweeper import cli
from sweeper.code.importing import find_ref
from sweeper.errors import ChangedCodeError
from sweeper.records import METRICS
from sweeper.settings import SweepSettings
from sweeper.signature import encode, make_point
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.revisions import stored_points
from sweeper.store.sources import Kept, text_of
from sweeper.train.data.samples import Data, HeldSet, LoadedSet
from sweeper.train.problem.behaviour.fingerprint import fingerprint
from sweeper.train.problem.behaviour.prints import Print
from sweeper.train.problem.loading import load_problem
from sweeper.train.replica.streams import _differ, _states
from sweeping import replicas_started, run
from test_probes import problem_of

PROBLEM = """
import torch
from torch import nn
import blobs
from blobs import dataset
from revised_helper import width

accuracy_style = "classification"
loss = nn.CrossEntropyLoss


def model(kind):
    if kind == "tanh":
        return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))
    if kind == "relu":
        return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 2))
    return nn.Sequential(nn.Linear(2, width), nn.Dropout(0.5), nn.Linear(width, 2))
"""

HELPER = "width = 3\n"
KINDS = ["tanh", "relu", "dropout"]


METHODS = pytest.mark.parametrize(
    "hparams",
    [
        pytest.param(blobs.QUICK, id="ranges", marks=pytest.mark.slow),
        pytest.param(blobs.LADDER, id="ladder"),
        pytest.param(blobs.UNTUNED, id="untuned"),
    ],
)


class Edited:
    """A problem that is edited between sweeps, and its folder."""

    def __init__(self, folder):
        self.path, self.out = folder / "revised.py", folder / "out"
        self.helper = folder / "revised_helper.py"
        self.hparams = blobs.UNTUNED
        self.path.write_text(PROBLEM)
        self.helper.write_text(HELPER)

    def edit(self, before, after, path=None):
        path = path or self.path
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    def sweep(self, kinds=KINDS, selector=None, **options):
        for name in ("revised", "revised_helper"):  # as in a new process
            sys.modules.pop(name, None)
        options = {"cores": 1, "save_models": "none", "hparams": self.hparams, **options}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sweeper.code.sources._imported", {})
            patch.setattr(sys, "dont_write_bytecode", True)
            selector = selector or sweeper.Grid(trials=2, kind=kinds)
            return run(self.out, selector, self.path, **options)

    def started(self):
        return len(replicas_started(self.out))


@pytest.fixture
def edited(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield Edited(tmp_path)
    for name in ("revised", "revised_helper"):
        sys.modules.pop(name, None)


def bits(point):
    return [getattr(point, metric).tobytes() for metric in METRICS]


GELU = ("nn.ReLU()", "nn.GELU()")


OWN = """

def optimizer(decay=0.0):
    return {"name": "sgd", "weight_decay": decay}


def dataset(scale=1.0):
    sets = blobs.dataset()
    for part in sets:
        x, _ = part.tensors
        x *= scale
    return sets
"""


@pytest.mark.parametrize("hparams", [blobs.LADDER, blobs.UNTUNED], ids=["ladder", "untuned"])
def test_an_edit_of_optimizer_or_data_concerns_the_points_that_use_what_changed(edited, hparams):
    edited.hparams = hparams
    edited.path.write_text(PROBLEM + OWN)
    points = [{}, {"decay": 0.1}, {"scale": 2.0}]
    selector = sweeper.FixedSweep.with_fixed_trials([{"kind": "tanh"} | one for one in points], 2)

    def sweep():
        return edited.sweep(selector=copy.deepcopy(selector))

    first, started = sweep(), edited.started()
    for before, after, place in (
        ('"weight_decay": decay', '"weight_decay": 3 * decay', 1),
        ("x *= scale", "x *= scale**2", 2),
    ):
        edited.edit(before, after)
        then = sweep()
        for number, (one, other) in enumerate(zip(first, then, strict=True)):
            assert (bits(one) == bits(other)) == (number != place)
        again = edited.started() - started
        first, started = then, edited.started()
        assert 0 < again <= started // 3
    sweep()
    assert edited.started() == started


@METHODS
def test_an_edit_concerns_the_points_that_behave_otherwise(edited, capsys, hparams):
    edited.hparams = hparams
    before = edited.sweep()
    edited.edit(*GELU)
    edited.edit("def model(kind):\n", 'def model(kind):\n    """What it is."""\n')
    started = edited.started()
    after = edited.sweep()
    assert [point.params for point in after] == [point.params for point in before]
    assert bits(after[0]) == bits(before[0])
    assert bits(after[2]) == bits(before[2])
    assert bits(after[1]) != bits(before[1])
    assert len(after[1].perf_val) == 2
    retrained = replicas_started(edited.out)[started:]
    assert len({point for point, _, _ in retrained}) == 1
    said = "1 point was trained by earlier code and is kept apart: kind=relu"
    assert any(said in note for note in after.notes)
    assert not any("was allowed" in note for note in after.notes)
    started = edited.started()
    edited.sweep()
    assert edited.started() == started
    # It is what a sweep of the new code alone gives.
    edited.out = edited.out.with_name("anew")
    assert bits(edited.sweep(["relu"])[0]) == bits(after[1])


def test_what_is_kept_apart_is_nowhere_but_in_the_database(edited, capsys):
    edited.sweep(save_models="final")
    edited.edit(*GELU)
    after = edited.sweep(save_models="final")
    paths = Paths(edited.out)
    assert paths.params_csv.read_text() == "id,kind\n0,tanh\n2,dropout\n3,relu\n"
    with Store.read(paths.database) as store:
        points = {point.id: point for point in stored_points(store)}
        assert len(list(store.outcomes("stage = 'trial' AND point = 1"))) == 2
    assert [number for number, point in points.items() if point.is_apart] == [1]
    assert points[1].signature == points[3].signature == points[3].name
    assert not paths.point(1).exists()
    assert (paths.apart(1) / "trials/0/model.pt").is_file()
    assert paths.model(3, 0).is_file()
    assert len(sweeper.load(edited.out)) == len(after) == 3
    assert cli._run_command_line(["export", str(edited.out)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 6
    assert cli._run_command_line(["status", str(edited.out)]) == 0
    assert "6 of 6 done" in capsys.readouterr().out


@METHODS
def test_an_edit_that_is_undone_brings_the_results_back(edited, hparams):
    edited.hparams = hparams
    before = edited.sweep()
    edited.edit(*GELU)
    edited.sweep()
    edited.edit(*reversed(GELU))
    started = edited.started()
    back = edited.sweep()
    assert edited.started() == started
    assert [bits(point) for point in back] == [bits(point) for point in before]
    edited.edit(*GELU)
    edited.sweep()
    assert edited.started() == started


def test_another_architecture_is_added_without_a_word(edited):
    before = edited.sweep(["tanh"])
    edited.edit(
        "    if kind == ", '    if kind == "wide":\n        return nn.Linear(2, 2)\n    if kind == '
    )
    after = edited.sweep(["tanh", "wide"])
    assert bits(after[0]) == bits(before[0])
    assert len(after[1].perf_val) == 2
    assert not any("earlier code" in note or "was allowed" in note for note in after.notes)


def test_comments_and_line_breaks_are_no_change(edited):
    edited.sweep(["tanh"])
    edited.edit("import blobs\n", "# the data\nimport blobs\n\n")
    edited.edit("width = 3", "width = (\n    3)  # neurons", edited.helper)
    # Not even where nobody could tell.
    with Store.open(Paths(edited.out).database) as store:
        forget_fingerprints(store)
    started = edited.started()
    edited.sweep(["tanh"])
    assert edited.started() == started
    with Store.read(Paths(edited.out).database) as store:
        assert not store.meta.get("earlier_sources")
    edited.sweep(["tanh"])


def forget_fingerprints(store):
    """As points of earlier releases are."""
    with store.transaction():
        store.connection.execute(
            "UPDATE outcomes SET arrays = '' "
            "WHERE stage IN ('lr_range', 'ladder', 'describe') AND number = 0"
        )


def test_a_helper_that_changes_what_all_points_do(edited):
    before = edited.sweep()
    edited.edit("3", "5", edited.helper)
    after = edited.sweep()
    assert not {*map(str, map(bits, before))} & {*map(str, map(bits, after))}
    assert any("3 points were trained by earlier code" in note for note in after.notes)


SMOOTHED = "lambda: nn.CrossEntropyLoss(label_smoothing=0.1)"
TWICE = "lambda self, x: nn.Linear.forward(self, x) * (1 if self.training else 2)"
ODD = f"nn.Sequential(type('Odd', (nn.Linear,), {{'forward': {TWICE}}})(2, width)"
AGAIN = "def model(kind):\n    torch.rand(1)\n    return made(kind)\ndef made"

CHANGES = {
    "its initial weights": ("def model", AGAIN),
    "dropout": ("Dropout(0.5)", "Dropout(0.4)"),
    "the loss": (
        "loss = nn.C",
        "loss = lambda: nn.CrossEntropyLoss(label_smoothing=0.1)\n_ = nn.C",
    ),
    "the optimiser": ("loss =", "optimizer = 'adam'\nloss ="),
    "a setting of it": ("loss =", "optimizer = {'name': 'sgd', 'momentum': 0.5}\nloss ="),
    "the accuracy style": ('"classification"', '"inv-loss"'),
    "what it does in evaluation": ("nn.Sequential(nn.Linear(2, width), nn.Dr", f"{ODD}, nn.Dr"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_point_is_another_when_this_changes(edited, what):
    before = edited.sweep(["dropout"])
    edited.edit(*CHANGES[what])
    after = edited.sweep(["dropout"])
    assert any("1 point was trained by earlier code" in note for note in after.notes)
    assert bits(after[0]) != bits(before[0])


@METHODS
def test_a_point_that_raises_now_has_no_results_and_gets_them_back(edited, hparams):
    edited.hparams = hparams
    kinds = ["tanh", "dropout"]
    before = edited.sweep(kinds)
    edited.edit("nn.Dropout(0.5)", "nn.Dropout(5)")
    broken = edited.sweep(kinds)
    assert bits(broken[0]) == bits(before[0])
    assert not len(broken[1].perf_val)
    assert "dropout probability has to be" in broken.failures[0].message
    edited.edit("nn.Dropout(5)", "nn.Dropout(0.5)")
    started = edited.started()
    mended = edited.sweep(kinds)
    assert [bits(point) for point in mended] == [bits(point) for point in before]
    assert edited.started() == started
    assert not mended.failures


@METHODS
@pytest.mark.parametrize("why", ["an earlier release", "handlers"])
def test_where_nobody_can_tell_it_is_refused_or_allowed(edited, why, hparams):
    edited.hparams = hparams
    if why == "handlers":
        edited.edit("loss =", "def handlers(trainer, evaluator, trial): pass\nloss =")
    before = edited.sweep(["tanh", "relu"])
    if why == "an earlier release":
        with Store.open(Paths(edited.out).database) as store:
            forget_fingerprints(store)
    edited.edit("3", "5", edited.helper)
    reason = {"handlers": "what handlers do", "an earlier release": "no record of how kind=tanh"}
    with pytest.raises(ChangedCodeError, match=rf"'revised_helper.py' has .*{reason[why]}.*mix"):
        edited.sweep(["tanh", "relu"])
    after = edited.sweep(["tanh", "relu"], allow_changed_code=True)
    assert [bits(point) for point in after] == [bits(point) for point in before]
    assert "the problem's code changed during this sweep, and that was allowed" in after.notes
    edited.sweep(["tanh", "relu"])


def test_a_folder_that_knows_only_the_problems_own_file_goes_on_where_that_is_unchanged(edited):
    edited.sweep(["tanh"])
    with Store.open(Paths(edited.out).database) as store:
        forget_fingerprints(store)
        with store.transaction():
            store.connection.execute("DELETE FROM meta WHERE key LIKE '%source%' AND key != ?",
                                     ("source_sha256",))  # fmt: skip
    edited.edit("3", "5", edited.helper)
    started = edited.started()
    edited.sweep(["tanh"])
    assert edited.started() == started
    edited.edit("5", "6", edited.helper)
    with pytest.raises(ChangedCodeError, match=r"revised_helper\.py"):
        edited.sweep(["tanh"])


class Looks(sweeper.FixedSweep):
    """Decides by what it is told, as far as a replay can tell."""

    adaptive = True
    look_ahead = 1


def looking(kinds):
    return Looks.with_fixed_trials([{"kind": kind} for kind in kinds], 2)


def test_an_adaptive_selector_that_was_told_of_it_is_refused_or_mixed(edited):
    before = edited.sweep(selector=looking(KINDS))
    edited.edit("def model(kind):\n", 'def model(kind):\n    """Which."""\n')
    again = edited.sweep(selector=looking(KINDS))
    assert [bits(point) for point in again] == [bits(point) for point in before]
    edited.edit(*GELU)
    with pytest.raises(
        ChangedCodeError, match="was told of results that this code does not reproduce"
    ):
        edited.sweep(selector=looking(KINDS))
    mixed = edited.sweep(selector=looking(KINDS), allow_changed_code=True)
    assert [bits(point) for point in mixed] == [bits(point) for point in before]


def test_the_backends_agree_about_a_change(edited):
    before = edited.sweep(["tanh", "relu"], backend="local")
    edited.edit(*GELU)
    after = edited.sweep(["tanh", "relu"], backend="local", total_cores=1)
    assert bits(after[0]) == bits(before[0])
    assert bits(after[1]) != bits(before[1])
    edited.edit("def model(kind):\n", 'def model(kind):\n    """Which."""\n')
    started = edited.started()
    edited.sweep(["tanh", "relu"])
    assert edited.started() == started


def test_what_this_process_imported_before_it_was_edited_is_not_taken_for_the_new_code(edited):
    selector = sweeper.Grid(trials=1, kind=["relu"])
    usual = {"cores": 1, "save_models": "none"}
    run(edited.out, selector, edited.path, **usual)
    edited.edit(*GELU)
    with pytest.raises(
        ChangedCodeError, match=r"imported an earlier 'revised.py': start a new process"
    ):
        run(edited.out, selector, edited.path, **usual)


@pytest.mark.slow
def test_with_several_threads_the_points_are_told_apart_too(edited):
    before = edited.sweep(["tanh", "relu"], cores_per_trial=2)
    edited.edit(*GELU)
    after = edited.sweep(["tanh", "relu"], cores_per_trial=2)
    assert bits(after[0]) == bits(before[0])
    assert bits(after[1]) != bits(before[1])


@METHODS
def test_a_fingerprint_changes_no_result(edited, monkeypatch, hparams):
    edited.hparams = hparams
    with_it = edited.sweep()
    edited.out = edited.out.with_name("without")
    # Where it raises, a point has none.
    monkeypatch.setattr("sweeper.train.worker.first_look.fingerprint", lambda *_: 1 / 0)
    without = edited.sweep()
    for one, other in zip(with_it, without, strict=True):
        assert one[1:4] == other[1:4]
        assert bits(one) == bits(other)


# -- what is shown --------------------------------------------------------------------------------


def test_the_difference_is_shown(edited, capsys):
    edited.sweep(["relu"])
    command = ["show", str(edited.out), "--code"]
    assert cli._run_command_line(command) == 0
    assert capsys.readouterr().out == "the code has not changed\n"
    edited.edit(*GELU)
    assert cli._run_command_line(command) == 0
    shown = capsys.readouterr().out
    assert "--- revised.py (kept)\n+++ revised.py (now)" in shown
    assert "-        return nn.Sequential(nn.Linear(2, width), nn.ReLU(), " in shown
    assert "+        return nn.Sequential(nn.Linear(2, width), nn.GELU(), " in shown
    edited.sweep(["relu"])
    edited.edit("3", "5", edited.helper)
    assert cli._run_command_line(command) == 0
    shown = capsys.readouterr().out
    assert "kept apart: kind=relu\n--- revised.py (before)\n+++ revised.py (after)" in shown
    assert "-width = 3\n+width = 5" in shown


@pytest.mark.parametrize(
    "said",
    [
        {"sources": 3},
        {"sources": {"a.py": {"sha256": "x", "zlib": "no base64"}}},
        {"sources": {"a.py": {"sha256": "x", "zlib": "bm8gemxpYg=="}}},
        {"sources": {"a.py": {"sha256": 3, "zlib": ""}}},
        {"earlier_sources": {}},
        {"earlier_sources": [{"time": 1e300, "apart": [], "files": {}}]},
        {"earlier_sources": [{"time": 1.0, "apart": [77], "files": {}}]},
        {"earlier_sources": [{"time": 1.0, "apart": [], "files": {"a.py": {}}}]},
    ],
    ids=str,
)
def test_what_no_sweep_writes_is_refused_when_it_is_shown(edited, capsys, said):
    edited.sweep(["relu"], selector=sweeper.Grid(trials=0, kind=["relu"]))
    with Store.open(Paths(edited.out).database) as store:
        store.set_meta(said)
    assert cli._run_command_line(["show", str(edited.out), "--code"]) == 2
    assert "is damaged, or no sweep wrote it" in capsys.readouterr().err


def test_a_source_that_would_fill_the_memory_is_cut(monkeypatch):
    monkeypatch.setattr("sweeper.store.sources.LARGEST", 1000)
    bomb = Kept("a.py", "x", zlib.compress(bytes(10**7)))
    assert len(text_of(bomb)) == 1000


# -- fingerprints ---------------------------------------------------------------------------------

PRINT = Print(1, "said", "trace", "exact", (1.0, float("nan"), 2.0), "torch", "processor")


@pytest.mark.parametrize(
    ("changes", "agrees"),
    [
        ({}, True),
        ({"exact": "other"}, False),
        ({"trace": "other"}, False),
        ({"said": "other"}, False),
        ({"processor": "another", "exact": "other", "trace": "other"}, True),
        ({"torch": "another", "rough": (1.00005, float("nan"), 2.0)}, True),
        ({"torch": "another", "rough": (1.0005, float("nan"), 2.0)}, False),
        ({"torch": "another", "rough": (1.0, 1.0, 2.0)}, False),
        ({"torch": "another", "rough": (1.0, float("nan"))}, False),
        ({"torch": "another", "said": "other"}, False),
    ],
    ids=str,
)
def test_bits_are_compared_where_they_can_be(changes, agrees):
    other = dataclasses.replace(PRINT, **changes)
    assert PRINT.agrees(other) is agrees
    assert other.agrees(PRINT) is agrees
    assert str(Print.read(other.text())) == str(other)


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"rough": 1}), "\x00"])
def test_what_is_no_fingerprint_is_said(text):
    with pytest.raises(ValueError, match=r"."):
        Print.read(text)


@pytest.mark.parametrize("random", [False, True], ids=["data at rest", "random on access"])
def test_a_fingerprint_is_the_same_each_time_and_leaves_nothing_changed(random):
    problem = load_problem(find_ref("blobs"))
    tensors = [torch.linspace(-1, 1, 60).reshape(30, 2), torch.arange(30) % 2]
    items = [*zip(*tensors, strict=True)]

    class Noisy(list):
        def __getitem__(self, place):
            x, y = super().__getitem__(place)
            return x + torch.rand(2) * random, y

    held = HeldSet(*tensors)
    samples = LoadedSet(Noisy(items)) if random else held
    point = make_point({"hidden": 3, "dropout": 0.5}, "blobs", SweepSettings(), 0)
    threads = torch.get_num_threads()
    torch.manual_seed(3)
    before = _states()
    found = []
    try:
        for count in (2, 1):
            torch.set_num_threads(count)
            taken = fingerprint(problem, Data(samples, held), 0, 1, point.signature, point.encoded)
            found.append(taken)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert not _differ(before, _states())
    assert found[0] == found[1]
    other = make_point({"hidden": 3, "dropout": 0.4}, "blobs", SweepSettings(), 0)
    taken = fingerprint(problem, Data(samples, held), 0, 1, point.signature, other.encoded)
    assert not taken.agrees(found[0])


def test_what_a_loss_makes_of_a_rare_label_is_seen():
    """Its weight, say, where no other batch of a fingerprint has the label."""
    x, y = torch.linspace(-1, 1, 800).reshape(400, 2), torch.arange(400) % 2
    y[205] = 2
    data = Data(HeldSet(x, y), HeldSet(x[:100], y[:100]))

    def taken(loss):
        problem = problem_of(lambda: nn.Linear(2, 3), loss=lambda: loss)
        return fingerprint(problem, data, 0, 1, "ab" * 32, encode(()))

    def weighted(weight):
        weights = torch.tensor([1.0, 1.0, weight])
        return lambda output, y: nn.functional.cross_entropy(output, y, weight=weights)

    assert taken(weighted(1.0)).agrees(taken(weighted(1.0)))
    assert not taken(weighted(1.0)).agrees(taken(weighted(5.0)))
    assert not taken(weighted(1.0)).agrees(taken(nn.CrossEntropyLoss(ignore_index=2)))


def test_what_a_loss_holds_is_part_of_a_fingerprint():
    x, y = torch.linspace(-1, 1, 80).reshape(40, 2), torch.arange(40) % 2
    data = Data(HeldSet(x, y), HeldSet(x, y))

    def taken(weight):
        loss = lambda: nn.CrossEntropyLoss(torch.tensor([1.0, 1.0, weight]))  # noqa: E731
        problem = problem_of(lambda: nn.Linear(2, 3), loss=loss)
        return fingerprint(problem, data, 0, 1, "ab" * 32, encode(()))

    assert taken(1.0).agrees(taken(1.0))
    assert not taken(1.0).agrees(taken(5.0))
