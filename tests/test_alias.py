"""Aliases: people read the name; the model gets the value, which also identifies the point."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sweeper
from blobs import UNTUNED
from sweeper import cli
from sweeper.errors import ParamError
from sweeper.records import Alias, Reference
from sweeper.results import params_columns
from sweeper.settings import SweepSettings, get_settings
from sweeper.signature import decode, encode, make_point, without_aliases
from sweeper.summary import show_params
from sweeping import assert_same_bits, replicas_started
from sweeping import run as run_tuned

SETTINGS = SweepSettings(get_settings("fast"), 1, 1, "auto")

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


def run(folder, selector, **options):
    return run_tuned(folder, selector, hparams=UNTUNED, **options)


def point_of(params):
    return make_point(params, "toy", SETTINGS, 0)


@given(st.dictionaries(st.text(min_size=1), st.tuples(plain, st.none() | st.text(min_size=1))))
def test_a_point_is_that_of_its_values_and_keeps_its_names(drawn):
    named = {k: v if name is None else Alias(v, name) for k, (v, name) in drawn.items()}
    values = {k: v for k, (v, _) in drawn.items()}
    point = point_of(named)
    assert point.signature == point_of(values).signature
    assert without_aliases(named) == values
    assert decode(point.encoded) == named
    assert point_of(decode(point.encoded)).encoded == point.encoded
    in_place = point_of(tuple(named.values()))
    assert in_place.signature == point_of(tuple(values.values())).signature
    assert decode(in_place.encoded) == tuple(named.values())


def test_an_alias_is_shown_by_its_name():
    params = {"act": Alias(Reference("torch.nn:Tanh"), "tanh"), "width": Alias(64, "wide")}
    assert show_params(params) == "act=tanh width=wide"
    assert show_params(tuple(params.values())) == "tanh wide"
    assert params_columns(params) == [("act", "tanh"), ("width", "wide")]
    assert repr(Alias(64, "wide")) == "Alias(64, 'wide')"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([Alias(1, "one")], r"width\[0\]=Alias\(1, 'one'\): an alias names the whole value"),
        (Alias(Alias(1, "one"), "uno"), "an alias names the whole value"),
        (Alias(float("nan"), "not"), "width is NaN"),
        (Alias(object(), "thing"), "width=<object .* is a object"),
    ],
)
def test_what_cannot_have_an_alias_is_said(value, said):
    with pytest.raises(ParamError, match=said):
        point_of({"width": value})


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_name_is_a_text(name):
    with pytest.raises(ParamError, match="the name must be a text, not empty"):
        Alias(1, name)


def test_an_encoding_that_is_none_is_refused():
    for text in ('["a","x"]', '["a",3,["i","1"]]', '["a","x",["i","1"],1]'):
        with pytest.raises(ParamError, match="is not an encoded value"):
            decode(text)
    assert encode(Alias(1, "one")) == '["i","1"]'
    assert encode(Alias(1, "one"), as_given=True) == '["a","one",["i","1"]]'


def test_a_sweep_keeps_names_and_trains_values(tmp_path, capsys):
    named = sweeper.Domain(hidden=[2, sweeper.Alias(4, "wide")], dropout=[0.0])
    first = run(tmp_path / "named", named, trials=2)
    plain_ = run(tmp_path / "plain", sweeper.Domain(hidden=[2, 4], dropout=[0.0]), trials=2)
    assert [show_params(point.params) for point in first] == [
        "hidden=2 dropout=0.0",
        "hidden=wide dropout=0.0",
    ]
    for one, other in zip(first, plain_, strict=True):
        assert one[1:4] == other[1:4]
        assert one.perf_val.tobytes() == other.perf_val.tobytes()

    # Asked for by value it is the same point, under its first name, and nothing is trained again.
    before = replicas_started(tmp_path / "named")
    again = run(tmp_path / "named", sweeper.Domain(hidden=[2, 4], dropout=[0.0]), trials=2)
    assert replicas_started(tmp_path / "named") == before
    assert_same_bits(first, again)
    assert_same_bits(first, sweeper.load(tmp_path / "named"))

    points = tmp_path / "named" / "points"
    assert (points / "params.csv").read_text().splitlines()[2] == "1,wide,0.0"
    ids, params = pickle.loads((points / "params_lookup.pt").read_bytes())
    assert params[1] == {"hidden": 4, "dropout": 0.0}
    assert ids[("hidden", 4), ("dropout", 0.0)] == 1
    for command in ("show", "export --format json", "export --format csv"):
        with pytest.raises(SystemExit):
            cli.run_and_exit([*command.split()[:1], str(tmp_path / "named"), *command.split()[1:]])
    said = capsys.readouterr().out
    assert "hidden=wide dropout=0.0" in said
    assert "wide,0.0" in said
    start = said.index("{")
    document, _ = json.JSONDecoder().raw_decode(said[start:])
    assert document["points"][1]["params"]["hidden"] == {"alias": "wide", "value": 4}


def test_results_with_aliases_can_be_asked_for_again(tmp_path):
    named = sweeper.Domain(hidden=[sweeper.Alias(2, "small")], dropout=[0.0])
    first = run(tmp_path, named, trials=2)
    before = replicas_started(tmp_path)
    again = run(tmp_path, sweeper.FixedSweep(first))
    assert_same_bits(first, again)
    assert replicas_started(tmp_path) == before
    assert first.best("perf_val").params == {"hidden": sweeper.Alias(2, "small"), "dropout": 0.0}
