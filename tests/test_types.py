"""Settings: the presets, and the rule of every field."""

import dataclasses
import re

import pytest

from sweeper.errors import SettingsError
from sweeper.settings import METHODS, PRESETS, HyperparameterSettings, SweepSettings, get_settings

TABLE = {
    "method": ("ladder",) * 4,
    "tunings": (2, 3, 4, 6),
    "probe_inits": (1, 1, 3, 6),
    "full_length_inits": (0, 0, 3, 6),
    "probe_length": (0.5, 1.0, 1.0, 2.0),
    "tune": (("lr", "batch_size"),) * 4,
    "lr": (None,) * 4,
    "batch_size": (None,) * 4,
    "schedule": ("triangular",) * 4,
    "warmup": (0.0,) * 4,
    "cycle_epochs": (None,) * 4,
    "cycles": (4,) * 4,
    "epochs": (None,) * 4,
}
"""The fields of both methods and of the ladder, for each preset."""

RANGES = {
    "method": ("ranges",) * 4,
    "lr_start": (1e-6, 1e-6, 1e-8, 1e-8),
    "lr_end": (1, 1, 1, 1),
    "lr_sweep_len": (4.0, 6.0, 12.0, 20.0),
    "lr_min_inits": (1, 1, 3, 10),
    "lr_width_only_gradients": (False,) * 4,
    "batch_start": (16, 16, 16, 8),
    "batch_end": (128, 128, 128, 512),
    "batch_rn_min_inits": (1, 1, 3, 10),
    "batch_pts": (0, 3, 12, 24),
    "batch_pt_min_inits": (0, 1, 3, 10),
    "rescan_lr_after_bs": (False, False, True, True),
    "warmup_lr": (1e-6,) * 4,
    "warmup_batch": (64,) * 4,
    "warmup_pts": (0.1,) * 4,
    "cycle_epochs": (None,) * 4,
    "cycles": (4,) * 4,
    "epochs": (None,) * 4,
}
"""Those of both methods and of the range test, for each of its presets."""

NAMES = ("fastest", "fast", "slow", "slowest")
BOTH = {"method", "cycle_epochs", "cycles", "epochs"}


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize(("prefix", "table"), [("", TABLE), ("ranges-", RANGES)], ids=METHODS)
def test_the_presets_are_what_they_are_documented_to_be(prefix, table, place):
    found = dataclasses.asdict(get_settings(prefix + NAMES[place]))
    assert {name: found[name] for name in table} == {
        field: values[place] for field, values in table.items()
    }
    # What belongs to the other method says nothing, and is at its default.
    default = dataclasses.asdict(HyperparameterSettings())
    assert {name: found[name] for name in found.keys() - table} == {
        name: default[name] for name in default.keys() - table
    }


def test_there_are_no_other_presets():
    assert list(PRESETS) == [*NAMES, *(f"ranges-{name}" for name in NAMES)]


def test_the_default_settings_are_fast():
    assert HyperparameterSettings() == PRESETS["fast"]
    assert HyperparameterSettings(method="ranges") == PRESETS["ranges-fast"]


BAD = {
    "method": ["range", "", None, True],
    "tunings": [0, -1, 1.0, True, None],
    "probe_inits": [0, 1.5, None],
    "full_length_inits": [-1, 1.5, None],
    "probe_length": [0, -1.0, float("nan"), float("inf"), None, True, "1"],
    "tune": ["lr", ("lr", "decay"), [["lr"]], None, True],
    "lr": [0, -0.1, float("nan"), float("inf"), "x", True],
    "batch_size": [0, -8, 16.0, "16", True],
    "schedule": ["", "linear", None, 1],
    "warmup": [-0.1, 1, 1.5, float("nan"), None, "x", True],
    "lr_start": [0, -1e-3, float("nan"), float("inf"), "x", None, True, 2.0],
    "lr_end": [0, float("inf"), "1"],
    "lr_sweep_len": [0, 0.0, -1, float("nan"), None, True],
    "lr_min_inits": [0, 1.0, None],
    "lr_width_only_gradients": [0, None, "no"],
    "batch_start": [0, 128, 16.0],
    "batch_end": [16, 0],
    "batch_rn_min_inits": [0],
    "batch_pts": [1, -1, 3.0],
    "batch_pt_min_inits": [-1, None],
    "rescan_lr_after_bs": [1],
    "warmup_lr": [0],
    "warmup_batch": [0],
    "warmup_pts": [-1, True],
    "cycle_epochs": [0, 1.5],
    "cycles": [0],
    "epochs": [0, 4.0, True],
}


def method_of(name):
    """The settings without which a field may not be changed."""
    return {"method": "ranges"} if name in RANGES.keys() - BOTH else {}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_a_bad_value_is_refused_with_field_value_and_rule(name, value):
    with pytest.raises(SettingsError) as refused:
        HyperparameterSettings(**(method_of(name) | {name: value}))
    message = str(refused.value)
    assert f"{name}={value!r}: it must be " in message or (
        name == "batch_end" and "must be below batch_end" in message
    )


def test_every_field_has_a_row():
    fields = {field.name for field in dataclasses.fields(HyperparameterSettings)}
    assert set(TABLE) | set(RANGES) == set(BAD) == fields
    assert set(TABLE) & set(RANGES) == BOTH


OTHERS = {
    "tunings": 5,
    "probe_inits": 2,
    "full_length_inits": 2,
    "probe_length": 3.0,
    "tune": ("lr",),
    "lr": 0.1,
    "batch_size": 16,
    "schedule": "cosine",
    "warmup": 0.1,
    "lr_start": 1e-5,
    "lr_end": 2.0,
    "lr_sweep_len": 2.0,
    "lr_min_inits": 2,
    "lr_width_only_gradients": True,
    "batch_start": 8,
    "batch_end": 64,
    "batch_rn_min_inits": 2,
    "batch_pts": 5,
    "batch_pt_min_inits": 2,
    "rescan_lr_after_bs": True,
    "warmup_lr": 1e-5,
    "warmup_batch": 32,
    "warmup_pts": 0.2,
}
"""For each field that only one method knows: a value that is not its default."""


def test_every_field_that_one_method_knows_has_another_value():
    assert set(OTHERS) == (set(TABLE) ^ set(RANGES))


@pytest.mark.parametrize("name", OTHERS)
def test_a_field_of_the_other_method_is_refused(name):
    own, value = ("ladder" if name in TABLE else "ranges"), OTHERS[name]
    other = next(method for method in METHODS if method != own)
    assert getattr(HyperparameterSettings(method=own, **{name: value}), name) == value
    said = f"{name}={value!r}: it belongs to method='{own}', and the method is '{other}'"
    with pytest.raises(SettingsError, match=re.escape(said)):
        HyperparameterSettings(method=other, **{name: value})


def test_a_field_of_the_other_method_may_be_given_at_its_default():
    default = dataclasses.asdict(HyperparameterSettings())
    for method in METHODS:
        given = {**default, "method": method}
        assert HyperparameterSettings(**given) == HyperparameterSettings(method=method)


def test_a_given_rate_is_a_float():
    for name, value in (("lr", 1), ("probe_length", 2), ("warmup", 0)):
        assert type(getattr(HyperparameterSettings(**{name: value}), name)) is float


def test_epochs_are_given_once_and_shared_by_cycles():
    assert HyperparameterSettings(epochs=8).epochs == 8
    with pytest.raises(SettingsError, match="epochs=8 and cycle_epochs=2: give one of them"):
        HyperparameterSettings(epochs=8, cycle_epochs=2)
    with pytest.raises(SettingsError, match=r"epochs=6: it must be a multiple of cycles, .* is 4"):
        HyperparameterSettings(epochs=6)
    assert HyperparameterSettings(epochs=6, cycles=3).epochs == 6


@pytest.mark.parametrize("name", ["cores", "cores_per_trial"])
@pytest.mark.parametrize("value", [0, -1, 1.0, True, None])
def test_cores_are_counted_from_one(name, value):
    with pytest.raises(SettingsError, match=f"{name}="):
        SweepSettings(**{name: value})


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(SettingsError, match="'best' is not a preset: choose fastest, fast, slow"):
        get_settings("best")
    with pytest.raises(
        SettingsError, match=r"'slo' is not a preset \(did you mean slow\?\): choose"
    ):
        get_settings("slo")
