"""Encodings, signatures and seeds: the same on every machine, for ever."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import json
import math
import os
import pathlib
import subprocess
import sys
import types
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sweeper import records, signature
from sweeper.code.references import find_importable, reference
from sweeper.errors import ParamError
from sweeper.settings import PRESETS, HyperparameterSettings, SweepSettings
from sweeper.signature import (
    STREAMS,
    decode,
    encode,
    encode_settings,
    in_order,
    make_point,
    normalise,
    seed_sequence,
)

SETTINGS = SweepSettings()


class Importable:
    class Inner:
        pass

    def method(self):
        pass


def function():
    pass


plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**400), 2**400)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))  # lone surrogates too
)
keys = st.text() | st.integers() | st.booleans() | st.tuples(st.integers(), st.text())
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


def same(one, other):
    """Equal in value, in type, and in the last bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            any(same(key, found) and same(item, other[found]) for found in other)
            for key, item in one.items()
        )
    if isinstance(one, float):
        return one.hex() == other.hex()
    return one == other


def sign(params, problem="digits", settings=SETTINGS, seed=0):
    return make_point(params, problem, settings, seed).signature


def run_python(*arguments, hash_seed="random"):
    """What another process prints."""
    root = str(pathlib.Path(signature.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


# -- values ---------------------------------------------------------------------------------------


@given(values)
def test_what_is_decoded_is_what_was_encoded(value):
    assert same(decode(encode(normalise(value))), value)


@pytest.mark.parametrize(
    "value",
    [-0.0, 0.0, math.inf, -math.inf, 5e-324, 0.1 + 0.2, 10**60, -(10**60), "", "é\0\n\ud800", ()],
)
def test_the_edges_come_back_to_the_last_bit(value):
    assert same(decode(encode(value)), value)


@given(values, values)
def test_encodings_are_equal_exactly_where_values_are(one, other):
    assert (encode(one) == encode(other)) == same(one, other)
    assert encode(one).isascii()


def test_numbers_of_different_types_differ():
    alike = [1, 1.0, True, "1", (1,), [1], {"1": 1}, 0.0, -0.0, 0, False, None, ""]
    assert len({encode(value) for value in alike}) == len(alike)


@given(st.dictionaries(keys, values, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_a_mapping_does_not_matter(mapping, random):
    items = list(mapping.items())
    random.shuffle(items)
    assert encode(dict(items)) == encode(mapping)


@given(st.integers(-128, 127), st.floats(width=32, allow_nan=False), st.text(max_size=5))
def test_numpy_scalars_equal_pythons(integer, number, text):
    text = text.rstrip("\0")  # numpy's strings end there
    assert encode(normalise(np.int8(integer))) == encode(integer)
    assert encode(normalise(np.float32(number))) == encode(number)
    assert encode(normalise(np.float64(number))) == encode(number)
    assert encode(normalise(np.str_(text))) == encode(text)
    assert encode(normalise([{"a": np.bool_(True)}])) == encode([{"a": True}])


def test_numpy_scalars_are_made_pythons_inside_a_point():
    params = make_point((np.int64(3), [np.float64(0.5)]), "digits", SETTINGS, 0).params
    assert same(params, (3, [0.5]))


class Colour(int, enum.Enum):
    RED = 1


class Text(str):
    __slots__ = ()


def local():
    pass


local.__qualname__ = local.__name__ = "elsewhere"


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        np.float32("nan"),
        lambda: None,
        Importable(),
        Importable().method,
        functools.partial(function),
        local,
        {1, 2},
        b"bytes",
        1j,
        np.zeros(3),
        np.datetime64("2020-01-01"),
        np.longdouble(1),
        object(),
        Colour.RED,
        Text("a"),
        pathlib.Path("a"),
    ],
)
def test_what_no_file_could_keep_is_refused_by_name(value):
    with pytest.raises(ParamError, match=r"^hidden"):
        normalise(value, "hidden")
    with pytest.raises(ParamError, match=r"^hidden"):
        make_point({"depth": 1, "hidden": value}, "digits", SETTINGS, 0)
    with pytest.raises(ParamError, match=r"^parameter 1\[0\]\['deep'\]"):
        make_point((1, [{"deep": value}]), "digits", SETTINGS, 0)


def test_a_key_is_checked_too():
    with pytest.raises(ParamError, match="a key of hidden is NaN"):
        normalise({math.nan: 1}, "hidden")


def test_a_local_function_is_refused():
    def inside():
        pass

    class Inside:
        pass

    for value in (inside, Inside):
        with pytest.raises(ParamError, match=r"hidden=.* cannot be imported by name"):
            normalise(value, "hidden")


class Pair(NamedTuple):
    one: int


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Pair(1), "Pair, which would be read back as a tuple"),
        (torch.Size([1]), "Size, which would be read back as a tuple"),
        (collections.UserDict(a=1), "UserDict, which would be read back as a dict"),
        (collections.OrderedDict(a=1), "OrderedDict, which would be read back as a dict"),
        (collections.defaultdict(int, a=1), "defaultdict, which would be read back as a dict"),
        (types.MappingProxyType({"a": 1}), "mappingproxy, which would be read back as a dict"),
    ],
)
def test_no_container_becomes_another_silently(value, plain):
    for kept in (value, [value], {"k": value}):
        with pytest.raises(ParamError, match=plain):
            normalise(kept, "hidden")


@pytest.mark.parametrize(
    "value",
    [
        *(torch.tanh, torch.sigmoid, torch.softmax, torch.conv1d),
        *(nn.functional.gelu, nn.functional.relu, nn.functional.conv1d),
        *(torch.special.erf, torch.linalg.norm, torch.Tensor.tanh, str.upper, np.tanh, nn.ReLU),
    ],
)
def test_functions_of_torch_come_back_by_name(value):
    assert normalise(value) is value
    assert decode(encode(value), find_importable) is value


def test_a_name_that_leads_to_something_else_is_said():
    replaced = types.FunctionType(function.__code__, globals(), "function")
    with pytest.raises(ParamError, match=r"module test_signature has something else called funct"):
        normalise(replaced, "hidden")
    replaced.__qualname__ = replaced.__name__ = "nowhere"
    with pytest.raises(ParamError, match=r"module test_signature has nothing called nowhere"):
        normalise(replaced, "hidden")


@pytest.mark.parametrize("value", [Importable, Importable.Inner, function, math.sin, dict, len])
def test_an_importable_comes_back_by_its_name(value):
    name = reference(value)
    assert decode(encode(value)) == name  # showing a folder imports nothing
    assert decode(encode(value), find_importable) is value
    assert encode(value) != encode(name)


def test_a_record_has_the_name_that_folders_know():
    kinds = {getattr(records, name) for name in records.__all__}
    named = {kind: reference(kind) for kind in kinds if isinstance(kind, type)}
    assert named == {kind: f"sweeper.records:{kind.__name__}" for kind in named}
    assert records.KFold in named


def test_names_that_lead_nowhere_are_refused():
    with pytest.raises(ParamError, match="no_such_module"):
        find_importable("no_such_module:Name")
    with pytest.raises(ParamError, match="has no Missing"):
        find_importable("math:Missing")
    with pytest.raises(ParamError, match="not an encoded value"):
        decode('["x", 1]')


def test_a_class_of_the_running_script_is_named_by_its_file(tmp_path):
    script = tmp_path / "my_script.py"
    script.write_text(
        "from sweeper.code.references import reference\nclass Mine: pass\nprint(reference(Mine))\n",
        encoding="utf-8",
    )
    assert run_python(str(script)) == "my_script:Mine\n"


@pytest.mark.parametrize("hash_seed", ["0", "1", "2"])
def test_a_set_has_one_order_in_every_process(hash_seed):
    names = {"Tanh", "ReLU", "ELU", "GELU", "3", 3, 20, None, (1, "a"), 0.5}
    code = f"from sweeper.signature import in_order; print(in_order({names!r}))"
    assert run_python("-c", code, hash_seed=hash_seed) == f"{in_order(names)!r}\n"


# -- signatures -----------------------------------------------------------------------------------

GOLDEN_PARAMS = {
    "hidden": 64,
    "rate": 0.1,
    "nested": [(1, 1.0, True), {"é": None}],
    "nonlinearity": math.sin,
}
GOLDEN = "62a172c2eac25011ce5bb2ab583d2a16eee6f3a9e0c5df432d8f30e395ce9132"
GOLDEN_PLAIN = "e37d771f4f788e8e65c96f09872eb22914147a79e714bb0ef8078ebad9febe19"
GOLDEN_LADDER = "b15b07b4c465c7a518cdb46330a818b669afe85f36b023a988faafc0ad258fe4"
GOLDEN_DEFAULT = "dce6287844db99222a9271c5a2ae19588673d66baa2c2c6662e41fdf2f87a5f8"

RANGES = SweepSettings(HyperparameterSettings(method="ranges"))


def test_signatures_never_drift():
    # Every folder that exists is found again by these: if this fails, the code is wrong.
    changed = HyperparameterSettings(method="ranges", cycles=1, lr_start=1e-7)
    settings = SweepSettings(changed, cores_per_trial=2)
    assert sign(GOLDEN_PARAMS, settings=settings, seed=7) == GOLDEN
    assert sign((16, "Tanh"), settings=RANGES) == GOLDEN_PLAIN


def test_signatures_of_the_ladder_never_drift():
    settings = SweepSettings(HyperparameterSettings(cycles=1, tunings=2), cores_per_trial=2)
    assert sign(GOLDEN_PARAMS, settings=settings, seed=7) == GOLDEN_LADDER
    assert sign((16, "Tanh")) == GOLDEN_DEFAULT


def test_a_signature_depends_on_all_that_results_depend_on():
    slow = SweepSettings(PRESETS["ranges-slow"])
    every = [
        sign((1, 2)),
        sign((1, 2.0)),
        sign((2, 1)),
        sign({"a": 1, "b": 2}),
        sign((1, 2), problem="letters"),
        sign((1, 2), seed=1),
        sign((1, 2), settings=slow),
        sign((1, 2), settings=RANGES),
        sign((1, 2), settings=SweepSettings(PRESETS["slow"])),
        sign((1, 2), settings=SweepSettings(HyperparameterSettings(lr=0.1))),
        sign((1, 2), settings=SweepSettings(cores=8)),
        sign((1, 2), settings=SweepSettings(cores_per_trial=2)),
    ]
    assert len(set(every)) == len(every)
    assert sign({"b": 2, "a": 1}) == sign({"a": 1, "b": 2})
    assert sign((np.int64(1), np.float64(2))) == sign((1, 2.0))


def test_settings_at_their_defaults_leave_no_trace():
    # But for the method: folders that were begun before there were two say nothing of it.
    for method, trace in (("ranges", {}), ("ladder", {"method": "ladder"})):
        fields = dataclasses.fields(HyperparameterSettings)
        given = {field.name: field.default for field in fields} | {"method": method}
        explicit = HyperparameterSettings(**given)
        assert encode_settings(SweepSettings(explicit, cores=4)) == encode(trace)
        changed = SweepSettings(HyperparameterSettings(method=method, cycles=1), cores=8)
        assert decode(encode_settings(changed)) == {**trace, "cycles": 1, "cores": 8}
    assert encode_settings(SETTINGS) == encode({"method": "ladder"})


def test_a_rate_has_one_encoding():
    for name, value in (("lr", 1), ("probe_length", 2), ("warmup", 0)):
        given = [{name: value}, {name: float(value)}]
        whole, real = (SweepSettings(HyperparameterSettings(**one)) for one in given)
        assert encode_settings(whole) == encode_settings(real)
    assert encode_settings(whole) == encode_settings(SETTINGS)


def test_a_length_in_samples_is_not_one_in_epochs():
    samples = SweepSettings(HyperparameterSettings(method="ranges", lr_sweep_len=6))
    epochs = SweepSettings(HyperparameterSettings(method="ranges", lr_sweep_len=6.0))
    assert encode_settings(samples) != encode_settings(epochs)


@pytest.mark.parametrize("params", [16, "ab", {1, 2}, None, {1: 2}], ids=repr)
def test_parameters_are_a_tuple_or_a_mapping_of_names(params):
    with pytest.raises(ParamError, match="params="):
        sign(params)


def test_a_list_of_parameters_is_a_tuple_of_them():
    assert sign([1, "a"]) == sign((1, "a"))


def test_a_point_keeps_how_its_parameters_are_passed():
    point = make_point({"b": 2, "a": 1}, "digits", SETTINGS, 0)
    assert list(point.params) == ["b", "a"]
    assert decode(point.encoded) == point.params
    assert json.loads(point.encoded)


# -- seeds ----------------------------------------------------------------------------------------


def state(*arguments):
    return tuple(seed_sequence(*arguments).generate_state(8).tolist())


def test_every_replica_and_stream_has_its_own_seeds():
    one, other = sign((1,)), sign((2,))
    states = [
        state(seed, point, stream, number)
        for seed in (0, 1, 2**40)
        for point in (one, other)
        for stream in STREAMS.values()
        for number in (0, 1, 2, 1000)
    ]
    states += [state(0, one), state(0, one, 0), state(0, one, 0, 0, 0)]
    assert len(set(states)) == len(states)
    assert state(0, one, 1, 2) == state(0, one, 1, 2)


def test_seeds_never_drift():
    assert STREAMS == {"init": 0, "order": 1, "inside": 2, "evaluation": 3}
    assert state(7, "0123456789abcdef" * 4, 2, 5)[:2] == (2659392891, 2651326957)


def test_equal_settings_of_other_types_have_an_encoding_each():
    six = [
        SweepSettings(HyperparameterSettings(method="ranges", lr_sweep_len=length))
        for length in (7, 7.0)
    ]
    assert six[0] == six[1]
    texts = [encode_settings(settings) for settings in (*six, *six)]
    assert texts[:2] == texts[2:]
    assert texts[0] != texts[1]
