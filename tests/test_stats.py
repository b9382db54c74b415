"""Means, intervals and differences, against scipy's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

from sweeper.stats.intervals import mean_difference, mean_interval

samples = arrays(float, st.integers(2, 12), elements=st.floats(-1e6, 1e6))


def test_an_interval_by_hand():
    found = mean_interval([1.0, 2.0, 3.0, 4.0])
    assert (found.n, found.mean) == (4, 2.5)
    assert found.std == pytest.approx(math.sqrt(5 / 3))
    # Student's t with 3 degrees of freedom: 3.182 standard errors.
    assert found.half_width == pytest.approx(3.182446 * math.sqrt(5 / 3) / 2, rel=1e-6)
    assert (found.low, found.high) == (2.5 - found.half_width, 2.5 + found.half_width)


@given(samples, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_an_interval_is_students(values, confidence):
    found = mean_interval(values, confidence)
    if found.std == 0:
        assert found.half_width == 0
        return
    low, high = scipy_stats.t.interval(
        confidence, len(values) - 1, loc=values.mean(), scale=scipy_stats.sem(values)
    )
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-6, atol=1e-9)


def test_one_value_has_a_mean_and_no_spread():
    found = mean_interval([0.5])
    assert (found.n, found.mean) == (1, 0.5)
    assert math.isnan(found.std)
    assert math.isnan(found.half_width)


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, -math.inf]])
def test_nothing_has_no_mean(values):
    found = mean_interval(values)
    assert found.n == 0
    assert all(math.isnan(value) for value in (found.mean, found.std, found.half_width, found.low))


def test_what_is_not_finite_is_left_out():
    assert mean_interval([1.0, math.nan, 3.0, math.inf]) == mean_interval(np.array([1, 3]))


@given(samples, samples)
def test_a_difference_is_welchs(first, second):
    found = mean_difference(first, second)
    assert found.mean == pytest.approx(first.mean() - second.mean(), abs=1e-6)
    if first.std() < 1e-6 or second.std() < 1e-6:
        return  # scipy warns of cancellation
    expected = scipy_stats.ttest_ind(first, second, equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert found.half_width == pytest.approx((high - low) / 2, rel=1e-6)


@given(samples, samples)
def test_a_difference_turns_with_its_sides(first, second):
    one, other = mean_difference(first, second), mean_difference(second, first)
    assert one.mean == -other.mean
    assert one.p_value == pytest.approx(other.p_value, nan_ok=True)
    if max(first.std(), second.std()) > 1e-150:
        assert 0 <= one.p_value <= 1


def test_a_difference_needs_two_values_a_side():
    found = mean_difference([1.0], [2.0, 3.0])
    assert found.mean == -1.5
    assert math.isnan(found.half_width)
    assert math.isnan(found.p_value)
    assert math.isnan(mean_difference([], [1.0, 2.0]).mean)


def test_samples_that_do_not_vary():
    for other in ([1.0, 1.0], [2.0, 2.0]):
        found = mean_difference([1.0, 1.0], other)
        assert found.mean == 1.0 - other[0]
        assert math.isnan(found.half_width)
        assert math.isnan(found.p_value)
    one_varies = mean_difference([1.0, 1.0, 1.0], [1.0, 3.0])
    assert one_varies.half_width == mean_interval([1.0, 3.0]).half_width


def test_tiny_spreads_do_not_vanish():
    tiny = [0.0, 1e-160]
    assert math.isfinite(mean_difference(tiny, tiny).half_width)
