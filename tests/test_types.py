"""Settings: the presets, and the rule of every field."""

import dataclasses

import pytest

from sweeper.errors import SettingsError
from sweeper.types import PRESETS, HyperparameterSettings, SweepSettings, get_settings

TABLE = {
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
}


@pytest.mark.parametrize("place", range(4))
def test_the_presets_are_what_they_are_documented_to_be(place):
    name = ("fastest", "fast", "slow", "slowest")[place]
    assert dataclasses.asdict(get_settings(name)) == {
        field: values[place] for field, values in TABLE.items()
    }


def test_the_default_settings_are_fast():
    assert HyperparameterSettings() == PRESETS["fast"]


BAD = {
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
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_a_bad_value_is_refused_with_field_value_and_rule(name, value):
    with pytest.raises(SettingsError) as refused:
        HyperparameterSettings(**{name: value})
    message = str(refused.value)
    assert f"{name}={value!r}: it must be " in message or (
        name == "batch_end" and "must be below batch_end" in message
    )


def test_every_field_has_a_row():
    fields = {field.name for field in dataclasses.fields(HyperparameterSettings)}
    assert set(TABLE) == set(BAD) == fields


@pytest.mark.parametrize("name", ["cores", "cores_per_trial"])
@pytest.mark.parametrize("value", [0, -1, 1.0, True, None])
def test_cores_are_counted_from_one(name, value):
    with pytest.raises(SettingsError, match=f"{name}="):
        SweepSettings(**{name: value})


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(SettingsError, match="'fats' is not a preset: choose fastest, fast, slow"):
        get_settings("fats")
