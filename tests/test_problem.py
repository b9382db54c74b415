"""A problem however it is given, and every fault of it said in full."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import os
import subprocess
import sys
import textwrap
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

from sweeper.code.importing import ModuleRef, find_ref, is_loading
from sweeper.errors import ParamError, ProblemError
from sweeper.signature import encode
from sweeper.train.data.samples import Data, HeldSet
from sweeper.train.eager.probes import run_check
from sweeper.train.problem.loading import load_problem
from sweeper.train.problem.optimizer.optimizers import make_optimizer, set_rate
from sweeper.train.problem.optimizer.recipe import Clipping
from sweeper.train.problem.problem import NO_PARAMS, Problem
from sweeper.train.replica.streams import Streams
from sweeper.train.tuning.stages import Check

TOY = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

accuracy_style = "inv-loss"
loss = nn.MSELoss

class Cell:
    pass

def model(hidden=3):
    return nn.Linear(3, 1)

def dataset():
    x = torch.arange(12.0).reshape(4, 3)
    return TensorDataset(x, x[:, :1]), TensorDataset(x, x[:, :1])
"""


WRITTEN = {"toy_problem", "package", "script", "named", "unguarded", "broken", "broken_package"}
WRITTEN |= {"with_neighbour", "neighbour_of_toy"}
"""The modules that tests here write and import."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a problem, `toy_problem.py`, where Python looks; forgotten afterwards."""
    (tmp_path / "toy_problem.py").write_text(TOY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    yield tmp_path
    for name in list(sys.modules):
        if name.partition(".")[0] in WRITTEN:
            del sys.modules[name]


def find_problem(given):
    """Imported, as a worker does."""
    return load_problem(find_ref(given))


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    importlib.invalidate_caches()
    return path


# -- however it is given --------------------------------------------------------------------------


def test_a_problem_has_one_name_however_it_is_given(folder):
    by_name = find_problem("toy_problem")
    by_module = find_problem(importlib.import_module("toy_problem"))
    by_path = find_problem(str(folder / "toy_problem.py"))
    by_relative_path = find_problem("toy_problem.py")
    found = [by_name, by_module, by_path, by_relative_path]
    assert {problem.ref.name for problem in found} == {"toy_problem"}
    assert by_name.ref == by_module.ref == ModuleRef("toy_problem", "toy_problem")
    assert by_path.ref.path == by_relative_path.ref.path == str(folder / "toy_problem.py")
    assert len({problem.spec().source_sha256 for problem in found}) == 1
    source = (folder / "toy_problem.py").read_bytes()
    assert by_name.spec().source_sha256 == hashlib.sha256(source).hexdigest()


def test_the_name_is_the_last_component_or_the_modules_own(folder):
    write(folder, "package/inner.py", TOY)
    assert find_problem("package.inner").ref == ModuleRef("inner", "package.inner")
    write(folder, "package/named.py", TOY + "name = 'apples'\n")
    for given in ("package.named", "package/named.py"):
        assert find_problem(given).ref.name == "apples"


def loaded_from(path, name):
    """A module made from its file by hand, as notebooks and plug-ins do."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["named", "package.inner"])
@pytest.mark.parametrize("given", ["the module", "its name"])
def test_a_module_from_a_file_is_swept_where_another_of_its_name_can_be_imported(
    folder, name, given
):
    write(folder, f"{name.replace('.', '/')}.py", TOY.replace("hidden=3", "hidden=4"))
    path = write(folder, "elsewhere/mine.py", TOY)
    module = loaded_from(path, name)
    ref = find_ref(module if given == "the module" else name)
    assert ref == ModuleRef("", name, str(path))
    del sys.modules[name]
    assert load_problem(ref).spec().routes.calls["model"].text == "(hidden=3)"


def test_a_module_that_no_import_finds_is_taken_from_its_file(folder):
    path = write(folder, "elsewhere/mine.py", TOY)
    for name in ("named", "package.nowhere", "nowhere.at.all"):
        assert find_ref(loaded_from(path, name)) == ModuleRef("", name, str(path))
        del sys.modules[name]


def test_a_module_from_a_file_that_an_import_finds_too_goes_by_its_name(folder):
    path = write(folder, "package/inner.py", TOY)
    module = loaded_from(path, "package.inner")
    assert find_ref(module) == ModuleRef("", "package.inner")
    assert load_problem(find_ref(str(path))).module is not module


def test_a_package_that_changes_where_its_parts_are_is_asked(folder):
    write(folder, "package/__init__.py", "__path__.append(__path__[0] + '/more')")
    write(folder, "package/more/inner.py", TOY)
    module = importlib.import_module("package.inner")
    assert find_ref(module) == ModuleRef("", "package.inner")


MAIN = """
if __name__ == "__main__":
    from sweeper.code.importing import find_ref
    from sweeper.train.problem.loading import load_problem
    print(*(load_problem(find_ref(given)).ref.name for given in (__name__, "__main__")))
    print(load_problem(find_ref("__main__")).ref)
"""


@pytest.mark.parametrize(
    ("command", "ref"),
    [
        (["package/script.py"], "ModuleRef(name='script', module='script', path='{folder}/{it}')"),
        (["-m", "package.script"], "ModuleRef(name='script', module='package.script', path=None)"),
    ],
)
def test_the_running_script_has_the_same_name(folder, request, command, ref):
    write(folder, "package/script.py", TOY + MAIN)
    run = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(request.config.rootpath)},
        capture_output=True,
        text=True,
        check=True,
    )
    names, shown = run.stdout.splitlines()
    assert names.split() == ["script", "script"]
    assert shown == ref.format(folder=folder.resolve(), it="package/script.py")
    assert find_problem("package/script.py").ref.name == "script"


@pytest.mark.parametrize("given", ["toy_problem", "toy_problem.py"])
def test_a_worker_loads_what_was_found(folder, given):
    found = find_problem(given)
    del sys.modules["toy_problem"]
    loaded = load_problem(found.ref)
    assert loaded.ref == found.ref
    assert loaded.module is not found.module
    assert load_problem(found.ref).module is loaded.module, "imported once"


def test_a_module_that_is_not_the_imported_one_goes_by_its_path(folder):
    module = importlib.import_module("toy_problem")
    del sys.modules["toy_problem"]
    assert find_problem(module).ref.path == str(folder / "toy_problem.py")


def test_a_script_finds_its_neighbours(folder):
    write(folder, "elsewhere/neighbour_of_toy.py", "hidden = 5\n")
    write(folder, "elsewhere/with_neighbour.py", "from neighbour_of_toy import hidden\n" + TOY)
    assert find_problem("elsewhere/with_neighbour.py").module.hidden == 5


def test_a_parameter_of_the_problems_own_is_found_in_it(folder):
    problem = find_problem("toy_problem.py")
    assert problem.find("toy_problem:Cell") is problem.module.Cell
    assert problem.find("torch.nn:Tanh") is nn.Tanh
    with pytest.raises(ParamError, match="Missing"):
        problem.find("toy_problem:Missing")


# -- a call that no guard stands before -----------------------------------------------------------

UNGUARDED = (
    TOY
    + """
import sweeper
sweeper.sweep("toy_problem", None)
raise AssertionError("below the call")
"""
)


@pytest.mark.parametrize("given", ["unguarded", "unguarded.py"])
def test_an_unguarded_script_loads_as_far_as_the_call(folder, given):
    write(folder, "unguarded.py", UNGUARDED)
    problem = find_problem(given)
    assert problem.ref.name == "unguarded"
    assert len(problem.make_dataset(NO_PARAMS)) == 2
    assert not is_loading()
    assert sys.modules["unguarded"] is problem.module


def test_what_stands_below_the_call_is_missing(folder):
    write(folder, "unguarded.py", "import sweeper\nsweeper.sweep('toy_problem', None)\n" + TOY)
    with pytest.raises(ProblemError, match="model is missing"):
        find_problem("unguarded")


# -- faults of the module -------------------------------------------------------------------------

GOOD = {
    "model": nn.Linear,
    "dataset": lambda: (TensorDataset(torch.zeros(4, 3)), TensorDataset(torch.zeros(4, 3))),
    "loss": nn.MSELoss,
    "accuracy_style": "inv-loss",
}


def module_of(**changes: Any) -> ModuleType:
    module = ModuleType("toys.apples")
    for name, value in (GOOD | changes).items():
        if value is not None:
            setattr(module, name, value)
    return module


def problem_of(**changes: Any) -> Problem:
    return Problem(ModuleRef("apples", "toys.apples"), module_of(**changes))


class Rateless(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {})

    def step(self, closure=None):
        pass


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"model": None}, ["model is missing", "a callable model(*params) or model(**params)"]),
        ({"model": 3}, ["model is 3 (a int)", "torch.nn.Module"]),
        ({"dataset": None}, ["dataset is missing", "(train_set, val_set)"]),
        ({"dataset": (1, 2)}, ["dataset is (1, 2) (a tuple)", "a callable dataset()"]),
        ({"loss": None}, ["loss is missing", "torch.nn.CrossEntropyLoss"]),
        ({"loss": "mse"}, ["loss is 'mse' (a str)", "a callable that returns the loss module"]),
        (
            {"loss": nn.MSELoss()},
            [
                "loss is MSELoss() (a MSELoss); called, it raises TypeError",
                "returns the loss module",
            ],
        ),
        (
            {"loss": nn.functional.mse_loss},
            ["loss is <function mse_loss", "it raises TypeError", "returns the loss module"],
        ),
        ({"loss": dict}, ["loss() is {} (a dict)", "such as torch.nn.MSELoss()"]),
        (
            {"accuracy_style": None},
            ["accuracy_style is missing", "'classification', 'multilabel', 'inv-loss'"],
        ),
        (
            {"accuracy_style": "accuracy"},
            ["accuracy_style is 'accuracy' (a str)", "'classification'"],
        ),
        (
            {"accuracy_style": "multilabels"},
            ["'inv-loss' (did you mean multilabel?)"],
        ),
        ({"handlers": "log"}, ["handlers is 'log' (a str)", "handlers(trainer, evaluator, trial)"]),
        ({"optimizer": "rmsprob"}, ["optimizer is 'rmsprob' (a str)", "'sgd', 'adam', 'adamw'"]),
        ({"optimizer": {"class": dict}}, ["<class 'dict'> is not known"]),
        ({"optimizer": "LBFGS"}, ["'LBFGS' does not", "through a closure"]),
        ({"optimizer": {"class": torch.optim.LBFGS}}, ["'LBFGS' does not", "through a closure"]),
        ({"optimizer": {"name": "sgd", "class": "SGD"}}, ["give either 'name' or 'class'"]),
        ({"optimizer": {"class": Rateless}}, ["'Rateless' has none"]),
        ({"optimizer": {"name": "sgd", "groups": []}}, ["a function of the model"]),
        ({"optimizer": {"name": "sgd", "decay_only": 1}}, ["names of parameters"]),
        (
            {"optimizer": {"name": "sgd", "decay_only": "weight", "groups": list}},
            ["'decay_only' or 'groups', not both"],
        ),
        ({"optimizer": {"name": "rprop", "decay_only": "weight"}}, ["weight decay", "'Rprop' not"]),
        ({"optimizer": ["sgd"]}, ["optimizer is ['sgd'] (a list)", "'sgd', 'adam', 'adamw'"]),
        ({"optimizer": {"momentum": 0.9}}, ["{'momentum': 0.9} (a dict)", "{'name': 'sgd',"]),
        ({"optimizer": torch.optim.SGD}, ["optimizer is <class", "'sgd', 'adam', 'adamw'"]),
        (
            {"optimizer": {"name": "sgd", "lr": 0.1}},
            ["optimizer is {'name': 'sgd', 'lr': 0.1} (a dict)", "without 'lr'"],
        ),
        (
            {"optimizer": {"name": "adam", "momentum": 0.9}},
            ["'adam' has no option 'momentum'", "it has amsgrad, betas,"],
        ),
        (
            {"optimizer": {"name": "sgd", "momentum": -1}},
            ["{'name': 'sgd', 'momentum': -1} (a dict)", "settings that torch accepts", "-1"],
        ),
    ],
)
def test_a_fault_names_module_attribute_what_was_found_and_what_is_expected(changes, parts):
    with pytest.raises(ProblemError) as fault:
        problem_of(**changes)
    message = str(fault.value)
    assert message.startswith("problem apples (toys.apples): ")
    assert "; expected " in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "changes",
    [
        {"clip_grad_norm": 0},
        {"clip_grad_norm": True},
        {"clip_grad_value": "1"},
        {"clip_grad_value": float("nan")},
        {"clip_grad_norm": 1.0, "clip_grad_value": 1},
    ],
)
def test_bounds_of_gradients_are_positive_numbers_and_one_of_two(changes):
    with pytest.raises(
        ProblemError, match=r"^problem apples \(toys.apples\): clip_grad_.*expected"
    ):
        problem_of(**changes)
    assert problem_of(clip_grad_norm=1).clipping == Clipping(norm=1.0)
    assert problem_of().clipping == Clipping()


@pytest.mark.parametrize(
    "optimizer",
    [
        "sgd",
        "adam",
        "adamw",
        {"name": "sgd", "momentum": 0.9, "nesterov": True},
        "RMSprop",
        {"class": "rprop", "etas": (0.5, 1.1)},
        {"class": torch.optim.NAdam, "momentum_decay": 0.01},
        {"name": "adamw", "decay_only": "weight"},
    ],
)
def test_optimisers_that_are_known(optimizer):
    assert problem_of(optimizer=optimizer).optimizer(NO_PARAMS) == optimizer
    assert problem_of().optimizer(NO_PARAMS) == "sgd"


def layers():
    return nn.ModuleDict({"first": nn.Linear(2, 3), "norm": nn.LayerNorm(3)})


def test_decay_only_looks_at_the_parts_of_names():
    given = {"name": "adamw", "weight_decay": 0.5, "decay_only": ("first", "scale")}
    model = layers()
    decayed, others = make_optimizer(given, model, 0.1).param_groups
    assert decayed["params"] == [*model["first"].parameters()]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert others["params"] == [*model["norm"].parameters()]
    given["decay_only"] = "weight"
    decayed, _ = make_optimizer(given, model, 0.1).param_groups
    assert decayed["params"] == [model["first"].weight, model["norm"].weight]
    model["again"] = model["first"]
    given["decay_only"] = "again"
    decayed, _ = make_optimizer(given, model, 0.1).param_groups
    assert decayed["params"] == [*model["first"].parameters()]
    loss = nn.ParameterDict({"scale": torch.zeros(1), "again": torch.zeros(1)})
    decayed, others = make_optimizer(given, model, 0.1, loss).param_groups
    assert decayed["params"] == [*model["first"].parameters(), loss["again"]]
    assert others["params"][-1] is loss["scale"]
    given["decay_only"] = ("weigth",)
    with pytest.raises(ProblemError, match=r"no parameter's dotted name.*first.weight"):
        make_optimizer(given, model, 0.1)


def test_groups_have_rates_relative_to_the_tuned_one():
    def groups(model):
        first = {"params": (p for p in model["first"].parameters()), "lr_scale": 0.1}
        return [first, {"params": model["norm"].parameters(), "momentum": 0.5}]

    loss = nn.ParameterDict({"scale": torch.zeros(1)})
    given = {"name": "sgd", "groups": groups}
    optimizer = make_optimizer(given, layers(), 0.5, loss)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.5, 0.5]
    assert [group["momentum"] for group in optimizer.param_groups] == [0, 0.5, 0]
    assert optimizer.param_groups[2]["params"] == [loss["scale"]]
    set_rate(optimizer, 2.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 2.0, 2.0]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (lambda model: None, "returns None; expected a list of dicts"),
        (lambda model: [model.parameters()], "expected a list of dicts"),
        (lambda model: [{"params": model.parameters(), "lr": 1}], "with 'lr'.*'lr_scale' instead"),
        (lambda model: [{"params": model.parameters(), "lr_scale": -1}], "'lr_scale' -1"),
        (lambda model: [{"params": model.parameters(), "beta": 1}], "no option 'beta'"),
        (lambda model: [{"params": ["first.weight"]}], "'params' that are not parameters"),
        (lambda model: [{"params": model["norm"].parameters()}], "leaves out first.weight, first"),
        (
            lambda model: [{"params": [*model.parameters(), nn.Parameter(torch.ones(1))]}],
            "parameters that are not the model's",
        ),
    ],
)
def test_groups_that_are_none_are_refused(groups, message):
    with pytest.raises(ProblemError, match=message):
        make_optimizer({"name": "sgd", "groups": groups}, layers(), 0.1)


class Stream(IterableDataset[Any]):
    def __iter__(self):
        return iter(())


class StreamOfLength(Stream):
    def __len__(self):
        return 3


class Frame:
    """As a DataFrame of pandas: columns by name."""

    iloc = None

    def __len__(self):
        return 3

    def __getitem__(self, column):
        raise KeyError(column)


class Unreadable:
    def __len__(self):
        return 3

    def __getitem__(self, place):
        raise OSError("no disk")


def pair_of(part: Any) -> Any:
    return lambda: (part, part)


@pytest.mark.parametrize(
    ("dataset", "parts"),
    [
        (lambda: None, ["what dataset() returns is missing", "(train_set, val_set)"]),
        (
            pair_of(TensorDataset(torch.zeros(0, 3))),
            ["train_set of dataset() is empty", "one sample"],
        ),
        (
            lambda: ([(1, 2)], []),
            ["val_set of dataset() is empty", "at least one sample"],
        ),
        (lambda: ([(1, 2)],) * 4, ["what dataset() returns is ([(1, 2)]", "or one set"]),
        (lambda: [[(1, 2)]] * 4, ["an item of the set is [(1, 2)]", "a pair (x, y)"]),
        (lambda: TensorDataset(torch.zeros(4)), ["an item of the set is (tensor(0.),)"]),
        (pair_of(Stream()), ["train_set of dataset() is an IterableDataset", "list(dataset)"]),
        (pair_of(StreamOfLength()), ["train_set of dataset() is an IterableDataset"]),
        (pair_of(Frame()), ["train_set of dataset() is a Frame", "columns by name"]),
        (pair_of({"x": [1], "y": [1]}), ["train_set of dataset() is a dict", "columns by name"]),
        (pair_of(Unreadable()), ["train_set[0] of dataset() is not readable: OSError: no disk"]),
        (pair_of([3, 4]), ["an item of train_set is 3 (a int)", "a pair (x, y)"]),
        (pair_of([(1, 2, 3)]), ["an item of train_set is (1, 2, 3) (a tuple)", "a pair (x, y)"]),
    ],
)
def test_a_fault_of_the_dataset(dataset, parts):
    with pytest.raises(ProblemError) as fault:
        problem_of(dataset=dataset).make_dataset(NO_PARAMS)
    message = str(fault.value)
    assert message.startswith("problem apples (toys.apples): ")
    for part in (*parts, "; expected "):
        assert part in message


@pytest.mark.parametrize("given", ["broken", "broken.py", "package.broken"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "import no_such_module_at_all\n",
            "ModuleNotFoundError: No module named 'no_such_module_a",
        ),
        ("1 / 0\n", "ZeroDivisionError"),
        ("def (\n", "SyntaxError"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_imported(folder, given, text, reason):
    write(folder, "broken.py", text)
    write(folder, "package/broken.py", text)
    with pytest.raises(ProblemError) as fault:
        find_problem(given)
    assert given in str(fault.value)
    assert "cannot be imported" in str(fault.value)
    assert reason in str(fault.value)
    assert "broken" not in sys.modules
    assert not is_loading()


def test_a_package_that_cannot_be_imported(folder):
    write(folder, "broken_package/__init__.py", "1 / 0\n")
    write(folder, "broken_package/fine.py", TOY)
    with pytest.raises(
        ProblemError, match=r"'broken_package\.fine' cannot be imported: ZeroDivision"
    ):
        find_problem("broken_package.fine")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no_such_problem", "module='no_such_problem' cannot be found: give a dotted name"),
        ("no_such_package.problem", "module='no_such_package.problem' cannot be imported"),
        ("toy_problem.inner", "module='toy_problem.inner' cannot be imported"),
        ("no_such_file.py", "module='no_such_file.py': there is no such file"),
        ("./nowhere/toy", "module='./nowhere/toy': there is no such file"),
        ("", "module='' cannot be imported"),
        (3, "module=3 is a int: give a module, a dotted name"),
        (None, "module=None is a NoneType: give a module, a dotted name"),
        (SimpleNamespace(**GOOD), "is a SimpleNamespace: give a module"),
    ],
)
def test_what_is_no_problem_at_all(folder, given, message):
    with pytest.raises(ProblemError) as fault:
        find_problem(given)
    assert message in str(fault.value)


def test_a_module_without_a_file_could_not_be_imported_by_a_worker():
    with pytest.raises(ProblemError, match=r"toys\.apples has no file that a worker could import"):
        find_problem(module_of())


def test_parameters_are_checked_against_the_models_signature(folder):
    problem = find_problem("toy_problem")
    problem.spec().check_params({"hidden": 3})
    problem.spec().check_params((3,))
    problem.spec().check_params(())
    for params in ({"hiden": 3}, (1, 2)):
        with pytest.raises(ParamError, match=r"toy_problem.*it takes hidden"):
            problem.spec().check_params(params)


# -- the check of the first point -----------------------------------------------------------------


def checked(encoded: str = encode({}), **changes: Any) -> None:
    x = torch.arange(12.0).reshape(4, 3)
    samples = HeldSet(x, changes.pop("y", x[:, :1]))
    problem = problem_of(**({"model": lambda: nn.Linear(3, 1)} | changes))
    streams = Streams(0, "ab" * 32, "check", 0)
    run_check(problem, Data(samples, samples), streams, encoded, Check(4, steps=1))


class NoGradient(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x[:, :1]


class NotFinite(nn.MSELoss):
    def forward(self, output, y):
        return super().forward(output, y) * math.nan


def test_a_sound_problem_passes():
    checked()
    checked(y=torch.arange(4), loss=nn.CrossEntropyLoss, model=lambda: nn.Linear(3, 4))
    checked(
        encode((4,)),
        model=lambda outputs: (nn.Identity(), nn.Linear(3, outputs)),
        y=torch.ones(4, 4),
    )


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"model": lambda: nn.Linear(5, 1)},
            ["model() on the first batch (x (4, 3) float32, y (4, 1) float32)", "RuntimeError"],
        ),
        ({"model": lambda: 1 / 0}, ["model() is an error: ZeroDivisionError", "torch.nn.Module"]),
        ({"model": lambda: 3}, ["what model() returns is 3 (a int)", "torch.nn.Module"]),
        ({"model": nn.Identity}, ["model() is a model without parameters", "something to train"]),
        ({"model": NoGradient}, ["loss.backward() is an error", "gradients"]),
        (
            {"loss": lambda: nn.MSELoss(reduction="none")},
            ["loss is of shape (4, 1) float32", "one number (reduced by mean)"],
        ),
        (
            {"loss": nn.CrossEntropyLoss, "y": torch.tensor([0, 1, 2, 3])},
            ["loss of output (4, 1) float32 and y (4,) int64 is an error", "a number"],
        ),
        ({"loss": NotFinite}, ["loss of the first batch", " is nan", "a finite number"]),
        (
            {"accuracy_style": "multiclass", "loss": lambda: lambda output, y: output.mean()}
            | {"y": torch.ones(4, 3), "model": lambda: nn.Linear(3, 2)},
            ["accuracy_style 'multilabel' of output (4, 2) float32 and y (4, 3) float32"],
        ),
    ],
)
def test_a_check_says_what_does_not_work_together(changes, parts):
    with pytest.raises(ProblemError) as fault:
        checked(**changes)
    message = str(fault.value)
    assert message.startswith("problem apples (toys.apples): ")
    for part in (*parts, "; expected "):
        assert part in message


def test_a_check_names_the_parameters():
    with pytest.raises(ProblemError, match=r"model\(hidden=7\) on the first batch"):
        checked(encode({"hidden": 7}), model=lambda hidden: nn.Linear(hidden, 1))


class Sparse(nn.Module):
    """Its gradients are sparse."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(3, 1, sparse=True)

    def forward(self, x):
        return self.words(x.long() % 3).mean(1)


def test_a_step_that_the_optimiser_refuses_is_found_by_the_check():
    with pytest.raises(ProblemError, match=r"a step of the optimizer.*SparseAdam.*suits"):
        checked(model=Sparse, optimizer="adam")
    checked(model=Sparse, optimizer="sparseadam")
    with pytest.raises(ProblemError, match=r"a step of the optimizer.*buffers"):
        checked(optimizer={"class": Fussy, "buffers": 0})
    checked(optimizer={"class": Fussy, "buffers": 1})


class Fussy(torch.optim.SGD):
    def __init__(self, params, lr, buffers):
        super().__init__(params, lr)
        if not buffers:
            raise ValueError("no buffers")
