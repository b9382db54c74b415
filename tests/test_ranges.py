"""The curve mathematics, on made-up curves whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit

from sweeper.settings import PRESETS
from sweeper.train.tuning import ranges


def rise(x, middle, width, height=0.5):
    """A sigmoid that goes up by `height`, nine tenths of it within about 6 `width`."""
    return height * expit((x - middle) / width)


def find(x, curves, *, widest=False):
    curves = np.atleast_2d(curves)
    return ranges.rising_range(x, ranges.derive(x, curves).derived, widest=widest)


def noisy(curve, inits, sigma, seed=0):
    noise = np.random.default_rng(seed).standard_normal((inits, len(curve)))
    return curve + sigma * noise


# -- the range of a learning-rate curve -----------------------------------------------------------

LINEAR = np.linspace(1e-6, 1.0, 200)


def test_a_rise_before_a_collapse_is_found():
    curve = 0.1 + np.where(LINEAR < 0.6, rise(LINEAR, 0.3, 0.03), 0.0)
    found = find(LINEAR, curve)
    assert 0.18 < found.low < 0.27
    assert 0.33 < found.high < 0.42
    # A sigmoid's middle 80 % are 2 ln 9 widths wide; smoothing adds less than a window a side.
    assert found.high - found.low == pytest.approx(2 * np.log(9) * 0.03, abs=0.05)
    assert not found.at_end


@pytest.mark.parametrize("sigma", [0.001, 0.01, 0.03])
def test_noise_does_not_move_a_clear_rise(sigma):
    curve = 0.1 + np.where(LINEAR < 0.6, rise(LINEAR, 0.3, 0.03), 0.0)
    curves = noisy(curve, 4, sigma)
    found = find(LINEAR, curves)
    assert 0.15 < found.low < 0.27
    assert 0.33 < found.high < 0.45
    assert not ranges.is_flat(curves)


def test_the_larger_rise_is_preferred_unless_the_widest_is_asked_for():
    # Steep and large up to 0.2, a fall, then slow and small from 0.35 to 0.9.
    x = LINEAR
    knots = ([0.0, 0.1, 0.2, 0.35, 0.9, 1.0], [0.1, 0.1, 0.6, 0.1, 0.4, 0.0])
    curve = np.interp(x, *knots)
    largest, widest = find(x, curve), find(x, curve, widest=True)
    assert 0.06 < largest.low < largest.high < 0.22
    assert 0.33 < widest.low < widest.high < 0.92
    assert widest.high - widest.low > 0.3


def test_a_rise_that_goes_on_at_the_end_says_so():
    found = find(LINEAR, 0.1 + rise(LINEAR, 1.0, 0.05))
    assert found.at_end
    assert found.high > 0.98
    assert not find(LINEAR, 0.1 + rise(LINEAR, 0.5, 0.05)).at_end


def test_a_faint_rise_at_the_end_of_a_large_one_is_not_at_the_end():
    # Positive up to the last point, but what holds 80 % lies far before it.
    found = find(LINEAR, 0.1 + rise(LINEAR, 0.3, 0.03) + 1e-4 * LINEAR)
    assert not found.at_end
    assert found.high < 0.5


def test_a_falling_curve_has_no_range():
    assert find(LINEAR, 0.9 - 0.5 * LINEAR) is None
    assert ranges.rising_range(LINEAR, np.zeros(200)) is None


def test_log_spaced_rates():
    x = np.geomspace(1e-6, 1.0, 200)
    exponent = np.log10(x)
    curve = 0.1 + np.where(exponent < -1, rise(exponent, -3.0, 0.15), 0.0)
    found = find(x, curve)
    # The rise's middle 80 % lie between 10**-3.33 and 10**-2.67.
    assert 10**-4.0 < found.low < 10**-3.0
    assert 10**-2.8 < found.high < 10**-2.2
    assert not found.at_end


@pytest.mark.parametrize("samples", [40, 100, 350])
@pytest.mark.parametrize("preset", ["ranges-fastest", "ranges-fast", "ranges-slow"])
def test_curves_of_small_data(samples, preset):
    batch = min(64, samples)
    points = max(100, round(PRESETS[preset].lr_sweep_len * samples / batch))
    assert points == 100, "small data is swept in the fewest steps"
    x = np.linspace(1e-6, 1.0, points)
    curve = 0.3 + np.where(x < 0.7, rise(x, 0.25, 0.05), -0.2)
    # Fewer samples than are evaluated on: the noise is that of the training, and it is small.
    curves = noisy(curve, 4, 0.1 / np.sqrt(min(samples, 192)))
    found = find(x, curves)
    assert 0.05 < found.low < 0.25 < found.high < 0.45
    assert not ranges.is_flat(curves)


rates = st.tuples(
    st.floats(1e-9, 1e-1),
    st.floats(1.01, 1e9),
    st.integers(3, 150),
    st.sampled_from(["lin", "log"]),
)


@st.composite
def curve_sets(draw):
    start, factor, points, spacing = draw(rates)
    x = (np.linspace if spacing == "lin" else np.geomspace)(start, start * factor, points)
    shape = (draw(st.integers(1, 4)), points)
    return x, draw(arrays(float, shape, elements=st.floats(0.0, 1.0)))


@given(curve_sets(), st.booleans())
def test_a_range_is_always_three_points_and_low_below_high(given_curves, widest):
    x, curves = given_curves
    derived = ranges.derive(x, curves).derived
    found = ranges.rising_range(x, derived, widest=widest)
    assert (found is None) == (not (derived > 0).any())
    if found is not None:
        assert x[0] <= found.low < found.high <= x[-1]
        assert {found.low, found.high} <= set(x)
        assert np.searchsorted(x, found.high) - np.searchsorted(x, found.low) >= 2


@given(
    arrays(float, st.integers(3, 40), elements=st.floats(-1.0, 1.0)),
    st.integers(0, 2**32 - 1),
)
def test_the_part_chosen_holds_its_share_and_nothing_shorter_does(derived, seed):
    # Steps of unlike lengths, so that the fewest points are not the shortest part.
    x = np.cumsum(np.random.default_rng(seed).uniform(0.1, 1.0, len(derived)))
    found = ranges.rising_range(x, derived)
    if found is None:
        return
    mass = np.clip(derived, 0, None) * np.gradient(x)
    first, last = _interval_around(derived, mass, found, x)
    total = mass[first : last + 1].sum()
    low, high = int(np.searchsorted(x, found.low)), int(np.searchsorted(x, found.high))
    assert first <= low <= high - 2 <= last - 2
    assert mass[low : high + 1].sum() >= ranges.HELD * total * (1 - 1e-6)
    shorter = [
        (a, b)
        for a in range(first, last + 1)
        for b in range(a + 2, last + 1)
        if x[b] - x[a] < found.high - found.low - 1e-9
        and mass[a : b + 1].sum() > ranges.HELD * total * (1 + 1e-6)
    ]
    assert shorter == []


def _interval_around(derived, mass, found, x):
    """The positive interval with the largest integral, found by walking; at least three points."""
    best, worth, start = (0, 0), -1.0, None
    for place in range(len(derived) + 1):
        positive = place < len(derived) and derived[place] > 0
        if positive and start is None:
            start = place
        if not positive and start is not None:
            integral = mass[start:place].sum()
            if integral > worth:
                best, worth = (start, place - 1), integral
            start = None
    first, last = best
    while last - first < 2:
        first, last = (first, last + 1) if last < len(derived) - 1 else (first - 1, last)
    return first, last


# -- what is flat ---------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [3, 100, 101, 350, 1234])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 0.7])
def test_a_constant_curve_is_flat(points, value):
    assert ranges.is_flat(np.full((4, points), value))


def test_a_falling_curve_is_flat():
    assert ranges.is_flat(np.tile(0.9 - 0.5 * np.linspace(0, 1, 100), (4, 1)))


def test_too_few_points_say_nothing():
    assert ranges.is_flat(np.array([[0.1, 0.9]]))


@pytest.mark.parametrize(("points", "inits"), [(100, 1), (100, 4), (350, 4), (1000, 4)])
def test_noise_alone_is_mostly_flat(points, inits):
    # The best of many windows is compared, so two standard errors are passed by chance in about
    # three curves of ten, and in four of ten where the curve is long.
    called_rising = sum(
        not ranges.is_flat(noisy(np.full(points, 0.1), inits, 0.01, seed)) for seed in range(300)
    )
    assert 0.1 < called_rising / 300 < 0.45


def test_a_rise_well_above_the_noise_is_not_flat():
    x = np.linspace(0, 1, 100)
    sigma = 0.01
    error = sigma * np.sqrt(2 / (ranges.window_length(100) * 4))
    rising = [not ranges.is_flat(noisy(8 * error * x, 4, sigma, seed)) for seed in range(50)]
    assert all(rising)


# -- smoothing and combining ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "window"),
    [(1, 3), (30, 3), (49, 5), (50, 5), (100, 11), (119, 11), (120, 13), (1010, 101), (9999, 101)],
)
def test_the_window_is_a_tenth_of_the_points_odd_from_3_to_101(points, window):
    assert ranges.window_length(points) == window


@given(st.integers(1, 2000))
def test_every_window_is_odd_and_in_bounds(points):
    window = ranges.window_length(points)
    assert window % 2 == 1
    assert 3 <= window <= 101
    assert window in {3, 101} or abs(window - points / 10) <= 1


@given(st.integers(1, 200), st.floats(-2, 2), st.floats(-2, 2))
def test_smoothing_keeps_a_line_and_the_length(points, slope, offset):
    line = offset + slope * np.linspace(0, 1, points)
    np.testing.assert_allclose(ranges.smooth(line), line, atol=1e-9)


def test_smoothing_averages_noise_away():
    curve = noisy(np.zeros(1000), 1, 1.0)
    assert np.std(ranges.smooth(curve)) < 0.15


def test_initialisations_are_combined_by_log_mean_exp():
    curves = np.array([[0.0, 1.0], [1.0, 3.0]])
    expected = np.log(np.exp(curves).mean(axis=0))
    np.testing.assert_allclose(ranges.log_mean_exp(curves), expected)
    assert (ranges.log_mean_exp(curves) > curves.mean(axis=0)).all(), "leans to the better run"
    np.testing.assert_allclose(ranges.log_mean_exp(curves[:1]), curves[0])


def test_the_derivative_is_along_x():
    x = np.linspace(0.0, 5.0, 60)
    curves = ranges.derive(x, np.tile(3.0 * x, (2, 1)))
    np.testing.assert_allclose(curves.derived, 3.0)
    assert set(curves.arrays(x)) == {"raw", "smoothed", "combined", "derived"}
    assert curves.smoothed.shape == (2, 60)
    assert curves.combined.shape == curves.derived.shape == (60,)


@pytest.mark.parametrize(
    ("lengths", "kept"),
    [([100, 100], None), ([100, 30, 99], 30), ([0, 100], 0), ([100], None)],
)
def test_surviving_steps_are_those_of_the_first_divergence(lengths, kept):
    assert ranges.surviving_steps(lengths, 100) == kept


# -- batch sizes ----------------------------------------------------------------------------------


def test_values_are_averaged_by_batch_size():
    sizes = np.array([16, 16, 17, 19, 19, 19])
    values = np.array([[1.0, 3.0, 5.0, 0.0, 3.0, 6.0], [0.0, 0.0, 1.0, 2.0, 2.0, 2.0]])
    distinct, means = ranges.mean_by_size(sizes, values)
    assert distinct.tolist() == [16.0, 17.0, 19.0]
    assert means.tolist() == [[2.0, 5.0, 3.0], [0.0, 1.0, 2.0]]


def test_sizes_are_weighted_by_their_slope_and_at_least_5_percent_of_the_top():
    sizes, derived = np.array([16.0, 20.0, 24.0]), np.array([-1.0, 0.0, 2.0])
    weights = ranges.sampling_weights(sizes, derived, np.array([16, 20, 22, 24]))
    np.testing.assert_allclose(weights / weights[-1], [0.05, 0.05, 0.5, 1.0])
    assert weights.sum() == pytest.approx(1.0)


def test_where_nothing_rises_every_size_is_as_likely():
    weights = ranges.sampling_weights(
        np.array([16.0, 20.0]), np.array([-1.0, 0.0]), np.array([16, 18, 20])
    )
    assert weights.tolist() == [1 / 3] * 3
