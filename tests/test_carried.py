"""Objectives without a module: closures, lambdas, and what is typed in."""

import ast
import functools
import importlib.metadata
import random
import re
import subprocess
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import branches
import programs
import sweeper
from sweeper.code.carried import PROBLEM as NAMES
from sweeper.code.carried import Carried, carry, carry_problem, unpack
from sweeper.code.hashes import read_code
from sweeper.code.references import script_name
from sweeper.code.sources import read_carried
from sweeper.errors import ChangedCodeError, UsageError
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.sources import read_code_history
from sweeping import outcomes, python, replicas_started

PACKAGE = Path(sweeper.__file__).parent
XS = [{"x": 1}, {"x": 2}]


def run(objective, folder, points=XS, **options):
    options = {"backend": "inline", "trials": 2, **options}
    return sweeper.sweep(objective, points, folder=folder, progress=False, **options)


def adding(shift):
    seen = []

    def objective(x):
        seen.append(x)
        return {"value": x + shift + random.random(), "seen": len(seen)}

    return objective


@functools.cache
def cached(x):
    return x


def endless():
    yield from range(3)


def opened():
    return Path(__file__).open()


def sha256(objective):
    return read_code(objective, "the objective")[0]


# -- run -------------------------------------------------------------------------------------------


def test_a_closure_gives_the_same_bits_on_two_cores_and_keeps_nothing(tmp_path):
    here = run(adding(10), tmp_path / "here")
    run(adding(10), tmp_path / "two", backend="local", total_cores=2)
    assert outcomes(tmp_path / "here") == outcomes(tmp_path / "two")
    assert [values.tolist() for values in here.values("seen")] == [[1, 1], [1, 1]]
    about, how = here.notes
    assert about == "each trial is one call of the function test_carried.adding.objective"
    assert "workers get a copy: its identity is the hash of its code and of the values" in how


def test_lambdas_bound_methods_and_local_classes_are_carried(tmp_path):
    class Local(branches.Nothing):
        pass

    scale = np.arange(3.0)
    found = [
        run(lambda x: {"value": x * scale.sum()}, tmp_path / "lambda"),
        run(random.Random(1).betavariate, tmp_path / "method", [{"alpha": 1, "beta": 2}]),
        run(Local, tmp_path / "class"),
    ]
    assert not any(one.failures for one in found)
    assert found[0].values("value")[1].tolist() == [6.0, 6.0]
    assert found[1].values("value")[0][0] == found[1].values("value")[0][1]
    assert "the class test_carried.test_lambdas" in found[2].notes[0]


def test_a_function_with_a_cache_is_carried_with_its_code():
    names = {"__name__": "__main__"}
    exec(
        "import functools\n"
        "@functools.lru_cache(maxsize=7)\n"
        "def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "def objective(x): return fib(x)",
        names,
    )
    carried = carry(names.pop("objective"))
    names.clear()
    assert unpack(carried)(30) == 832040
    assert unpack(carry(cached)) is cached, "it is found in its module"


def test_functions_with_singledispatch_and_cached_properties_are_carried():
    text = """
import functools, types

class Own: pass

@functools.singledispatch
def size(x): return 1

@size.register
def _(x: list): return sum(size(one) for one in x)  # uses the function itself

@size.register(Own)
def _(x): return 5

class Model:
    def __init__(self, x): self.x, self.asked = x, 0

    @functools.cached_property
    def big(self):
        self.asked += 1
        return size(self.x)

    @functools.singledispatchmethod
    def kind(self, x): return "any"

    @kind.register
    def _(self, x: int): return "int"

def objective(x):
    model = Model([x, [x, Own()]])
    model.big
    return model.big, model.asked, model.kind(x), model.kind(""), size.__name__
"""
    objective = typed_objective(text)
    before = carry(objective)
    assert objective(1) == unpack(before)(1) == (7, 1, "int", "any", "size")
    assert carry(objective).sha256 == before.sha256, "what was found and locked says nothing"
    for old, new in [("return 5", "return 6"), ("(Own)", "(str)"), ("asked += 1", "asked += 2")]:
        assert carry(typed_objective(text.replace(old, new))).sha256 != before.sha256
    assert carry(typed_objective(text)).sha256 == before.sha256


def test_what_cannot_be_carried_is_named_by_all_that_it_is_in():
    text = """
import functools, threading
class Cached(functools.cached_property): pass
class Model:
    @Cached
    def big(self): return 1
def objective(x): return Model().big
"""
    with pytest.raises(UsageError, match="uses 'lock' of 'big' of 'Model', <unlocked"):
        carry(typed_objective(text))


def typed_objective(text):
    """The objective that this text defines, as if it were typed in."""
    names = {"__name__": "__main__"}
    exec(text, names)
    return names["objective"]


def test_functions_of_the_generators_of_modules_are_those_of_the_worker():
    objective = typed_objective(
        "from random import gauss, randint\n"
        "from numpy.random import normal\n"
        "def objective(x): return gauss, randint, normal"
    )
    random.seed(1)
    before = carry(objective)
    random.random()
    np.random.seed(2)  # noqa: NPY002 - the generator that is meant
    assert carry(objective).sha256 == before.sha256
    copied = unpack(before)(0)
    assert copied[:2] == (random.gauss, random.randint)
    assert copied[2] is np.random.normal


def test_each_copy_has_classes_of_its_own():
    objective = typed_objective(
        "import enum\n"
        "class Kind(enum.Enum): A = 1\n"
        "class Base: seen = 0\n"
        "class Count(Base):\n"
        "    def run(self, x):\n"
        "        super().seen, Kind.A\n"
        "        Count.seen += x\n"
        "        return Count.seen\n"
        "def objective(x): return Count().run(x), Kind"
    )
    before = carry(objective)
    (first, kind), (second, other) = unpack(before)(1), unpack(before)(1)
    assert first == second == 1, "what a trial changes in a class, no other sees"
    assert kind is not other
    assert carry(objective).sha256 == before.sha256, "the class itself is not touched"
    assert objective(1)[0] == 1


def test_to_be_carried_changes_no_hash():
    run = typed_objective(
        "class Base:\n"
        "    def run(self, x): return x\n"
        "class Own(Base):\n"
        "    def run(self, x): return super().run(x)\n"
        "objective = Own().run"
    )
    assert carry(run).sha256 == carry(run).sha256


def test_a_program_without_a_file_has_one_name():
    by_option, on_input = {"__name__": "__main__"}, {"__name__": "__main__", "__file__": "<stdin>"}
    assert script_name(by_option) == script_name(on_input) == "script"


TYPED = {
    "abstract": "import abc\nclass A(abc.ABC): n = 3\ndef objective(x): return A.n",
    "dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    n: int\n"
        "def objective(x): return A(3).n"
    ),
    "pattern": "import re\nA = re.compile('a+')\ndef objective(x): return A.match('aaa').end()",
    "ufunc": "from numpy import add\ndef objective(x): return add(1, 2)",
}


@pytest.mark.parametrize("text", TYPED.values(), ids=TYPED)
def test_what_people_define_at_the_top_is_carried(text):
    first, again = carry(typed_objective(text)), carry(typed_objective(text))
    assert unpack(first)(0) == 3
    assert first.sha256 == again.sha256


def test_typed_into_python_it_is_swept_and_gone_on_with(tmp_path):
    code = (
        "import sweeper, random\n"
        "shift = {{'by': {}}}\n"
        "def f(x): return x + shift['by'] + random.random()\n"
        "found = sweeper.sweep(f, [{{'x': 1}}], trials=3, folder='out', progress=False,\n"
        "                      backend='{}')\n"
        "print(found.values('value')[0].tolist(), found.notes[0])\n"
    )

    def printed(by, backend):
        process = python("-c", code.format(by, backend), stdout=-1, stderr=-1, cwd=tmp_path)
        return process.communicate()

    first, again, other = printed(5, "local"), printed(5, "inline"), printed(6, "inline")
    assert "each trial is one call of the function script.f" in first[0]
    assert first == again, "the same hash in another process"
    assert "'script.f (no file)' has changed since it was begun" in other[1]


def test_a_file_that_it_imports_is_part_of_its_code(tmp_path):
    (tmp_path / "helping.py").write_text("def double(x):\n    return 2 * x\n")
    code = (
        "import sweeper, helping\n"
        "sweeper.sweep(lambda x: helping.double(x), [{'x': 1}], trials=1, progress=False,\n"
        "              folder='out', backend='inline')\n"
    )
    assert python("-c", code, cwd=tmp_path).wait() == 0
    (tmp_path / "helping.py").write_text("def double(x):\n    return 3 * x\n")
    process = python("-c", code, cwd=tmp_path, stderr=subprocess.PIPE)
    assert "'helping.py' has changed" in process.communicate()[1]


def test_a_changed_lambda_is_changed_code(tmp_path):
    run(lambda x: x + 1, tmp_path)
    run(lambda x: x + 1, tmp_path)  # moved by a line
    with pytest.raises(ChangedCodeError, match=r"lambda \(no file\)' has changed"):
        run(lambda x: x + 2, tmp_path, trials=3)


def test_its_text_is_never_compared_as_python():
    carried = Carried(b"", "00", (), "def objective(x):\n    return x + caught\n")
    (source,) = read_carried(carried, "objective (no file)")
    with pytest.raises(SyntaxError):
        ast.parse(zlib.decompress(source.text))


def test_the_same_text_with_another_value_is_changed_code(tmp_path):
    run(adding(10), tmp_path)
    with pytest.raises(ChangedCodeError, match=r"adding.objective \(no file\)' has changed"):
        run(adding(11), tmp_path, trials=3)


@pytest.mark.parametrize("make", [threading.Lock, endless, opened])
def test_what_cannot_be_carried_is_named(tmp_path, make):
    held = make()
    with pytest.raises(UsageError, match=r"uses 'held', .* cannot be carried .* into a module"):
        run(lambda x: held, tmp_path)
    assert not any(tmp_path.iterdir())


# -- problems --------------------------------------------------------------------------------------

PROBLEM = """
import threading, sweeper
from torch import nn
from blobs import accuracy_style, dataset, loss

class Leaky(nn.LeakyReLU):
    pass

def model(hidden=2, act=nn.Tanh):
    return nn.Sequential(nn.Linear(2, hidden), act(), nn.Linear(hidden, 2))
"""

SWEPT = """
results = sweeper.sweep(__name__, [{{"hidden": 2, "act": Leaky}}], trials=2, cores=1,
                        hparams=sweeper.HyperparameterSettings(lr=0.1, batch_size=16, cycles=1),
                        pack="off", total_cores=1, folder={!r}, backend={!r}, progress=False)
"""


def typed_in(text, folder, backend="inline"):
    """What a sweep gives that is typed in after this text, in this process."""
    names = {"__name__": "__main__"}
    exec(text + SWEPT.format(str(folder), backend), names)
    return names["results"]


def test_a_problem_that_is_typed_in_is_swept_by_workers_and_gone_on_with(tmp_path):
    own = typed_in(PROBLEM, tmp_path / "own", "local")
    typed_in(PROBLEM, tmp_path / "here")
    assert outcomes(tmp_path / "own") == outcomes(tmp_path / "here")
    assert "problem script is in no file, so workers get a copy: its identity" in " ".join(
        own.notes
    )
    before = replicas_started(tmp_path / "own")
    typed_in(PROBLEM, tmp_path / "own")
    assert replicas_started(tmp_path / "own") == before
    with Store.read(Paths(tmp_path / "own").database) as store:
        code = read_code_history(store)
    assert {Path(label).name for label in code.kept} == {"script (no file)", "blobs.py"}
    assert code.read_now() == code.kept


def test_a_typed_in_problem_has_the_same_hash_in_another_process():
    hashing = (
        "\nfrom sweeper.code.importing import find_ref\nsha = find_ref(__name__).carried.sha256\n"
    )
    process = python("-c", f"{PROBLEM}{hashing}print(sha)", stdout=subprocess.PIPE)
    names = {"__name__": "__main__"}
    exec(PROBLEM + hashing, names)
    assert process.communicate()[0].strip() == names["sha"]


def test_points_of_a_typed_in_problem_are_trained_anew_where_its_code_matters(tmp_path):
    first = typed_in(PROBLEM, tmp_path / "out")
    before = replicas_started(tmp_path / "out")
    also = "\ndef unused(): pass\ndef show(): print(sweeper, results)\n"
    typed_in(f"# moved\n{PROBLEM}{also}", tmp_path / "out")
    assert replicas_started(tmp_path / "out") == before, "it behaves the same"
    deeper = PROBLEM.replace("act(), nn", "act(), nn.Linear(hidden, hidden), nn")
    found = typed_in(deeper, tmp_path / "out")
    assert found.values("loss_val")[0].tolist() != first.values("loss_val")[0].tolist()
    assert "shows what changed" in " ".join(found.notes)


def test_what_a_typed_in_problem_uses_and_no_worker_can_have_is_named(tmp_path):
    held = "\nheld = threading.Lock()\ndef model(hidden, act): return held\n"
    with pytest.raises(
        UsageError, match=r"the problem uses 'held' of 'model', .* put the problem, and what"
    ):
        typed_in(PROBLEM + held, tmp_path)
    assert not any(tmp_path.iterdir())
    names = "\nclass Leaky(nn.Tanh): held = threading.Lock()\n"
    with pytest.raises(UsageError, match=r"Leaky was not carried .*: put it into a module"):
        typed_in(PROBLEM + names, tmp_path)


def test_classes_and_functions_go_along_but_for_those_that_use_sweeper():
    names = {"__name__": "__main__", "results": [1], "held": threading.Lock()}
    more = "\ndef used(): pass\ndef show(): sweeper.load('out')\ndef uses(): return held\n"
    exec(PROBLEM + more, names)
    found = set(unpack(carry_problem(names)))
    assert found == {"accuracy_style", "dataset", "loss", "model", "Leaky", "used"}


def test_all_that_a_problem_may_define_is_carried():
    files = (PACKAGE / "train" / "problem").glob("*.py")
    code = "".join(path.read_text() for path in files)
    found = set(re.findall(r'getattr\((?:self\.)?module, "(\w+)"', code))
    assert {"handlers", "metrics", "validation", "name"} < found < {*NAMES}


# -- the hash --------------------------------------------------------------------------------------


class Model:
    def __init__(self, size):
        self.size = size


def local_class(number):
    class Local:
        constant = number

        @property
        def twice(self):
            return 2 * self.constant

    return Local


def with_attribute(number):
    def function():
        pass

    function.number = number
    return function


VALUES = [
    lambda n: n,
    with_attribute,
    lambda n: type("Meta", (type,), {"number": n})("Local", (), {}),
    lambda n: torch.ones(2, requires_grad=n > 1),
    lambda n: (torch.eye(2) * n).to_sparse(),
    lambda n: {n, "a", "b"},
    lambda n: type("Own", (set,), {})({n, "a", "b"}),
    lambda n: {"key": (n, b"0")},
    lambda n: np.arange(4) * n,
    lambda n: torch.arange(4) * n,
    Model,
    lambda n: local_class(n)(),
    lambda n: lambda x: x + n,
    np.random.default_rng,
    adding,
    lambda n: functools.cache(lambda: n),
]


def test_sets_and_what_is_made_of_them_have_the_same_hash_in_every_process():
    code = """
from sweeper.code.hashes import read_code
class Names(set): pass
class Fixed(frozenset):
    __slots__ = ("more",)
names = [f"name {n}" for n in range(20)]
own, fixed = Names(names), Fixed(names)
own.more = fixed.more = {*names}
def objective(x): return own, fixed, {*names}, x in {"a", "b", "c"}
print(read_code(objective, "the objective")[0])
"""
    found = [
        python("-c", code, stdout=subprocess.PIPE, environment={"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    ]
    first, second = (process.communicate()[0] for process in found)
    assert first == second != ""


@pytest.mark.parametrize("make", VALUES)
def test_a_value_that_a_closure_has_caught_counts(make):
    def using(value):
        return lambda x: (value, x)

    assert sha256(using(make(1))) == sha256(using(make(1)))
    assert sha256(using(make(1))) != sha256(using(make(2)))


def test_bytecode_constants_names_defaults_and_globals_count():
    same = [lambda x: x + 1, lambda x: x + 1]
    others = [
        lambda x: x - 1,
        lambda x: x + 2,
        lambda y: y + 1,
        lambda x, y=1: x + 1,
        lambda x, y=2: x + 1,
        lambda x: x + VALUES,
        lambda x: x + XS,
        lambda x: x + x.one,
        lambda x: x + x.other,
        lambda x: x + programs.number(x),
        lambda x: [x + 1 for _ in "ab"],
        lambda x: [x + 2 for _ in "ab"],
    ]
    assert len({sha256(one) for one in same}) == 1
    assert len({sha256(one) for one in same + others}) == 1 + len(others)


def test_cycles_come_to_an_end():
    def makes(number):
        def objective(x):
            return objective(x - 1) if x > number else 1

        return objective

    assert sha256(makes(0)) == sha256(makes(0)) != sha256(makes(1))


def test_modules_that_are_used_are_named():
    def objective(x):
        import json
        from xml import dom

        return programs.number(x), np.sum(x), json, dom, importlib.metadata.version

    found = set(read_code(objective, "the objective")[1])
    assert {"programs", "json", "numpy", "xml.dom", "importlib.metadata"} <= found
