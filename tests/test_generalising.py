"""Verdicts on new validation samples: against covariances, by hand, and on made-up populations."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3

import numpy as np
import pytest
from scipy import stats

import sweeper
from benchmarks.generalising import crossed, simulate, unlike
from blobs import UNTUNED
from sweeper.errors import FolderError
from sweeper.records import Metric
from sweeper.stats.compare import compare_all
from sweeper.stats.comparison import Sample
from sweeper.stats.components import estimate_means
from sweeper.stats.sampling import Correctness, SamplesPart, paired_part
from sweeper.stats.verdict import compare_points
from sweeping import run
from test_correctness import stored_in, sweep_cancer

ACCURACY = Metric("perf_val", bounds=(0.0, 1.0))


# -- the part of the samples ----------------------------------------------------------------------


def test_it_is_what_different_trials_have_in_common():
    # Without analysis of variance: the covariance over samples of two trials, over all pairs of
    # different ones (B. D. Gallas et al., 2009, have it as moments of such pairs).
    right = crossed(2, 300, 0.8).draw(np.random.default_rng(1), np.zeros(6, dtype=int))
    a, b = right[0], right[1][:5]
    both = np.cov(np.concatenate([a, b]).astype(float))
    of_a, of_b, across = both[:6, :6], both[6:, 6:], both[:6, 6:]
    common_a = of_a[~np.eye(6, dtype=bool)].mean()
    common_b = of_b[~np.eye(5, dtype=bool)].mean()
    expected = (common_a + common_b - 2 * across.mean()) / 300
    found = paired_part(Correctness.of(a), Correctness.of(b))
    assert found.variance == pytest.approx(expected + 2 / 300**2, rel=1e-9)


def test_it_is_what_other_samples_change():
    # The variance over whole sweeps is that of the trials and this part, less the added samples.
    kind = crossed(2, 200, 0.9, common=2, own=1, trial=0.2, chance=1)
    random, which = np.random.default_rng(2), np.zeros(6, dtype=int)
    seen, expected = [], []
    for _ in range(1500):
        first, second = kind.draw(random, which)
        seen.append(first.mean() - second.mean())
        part = paired_part(Correctness.of(first), Correctness.of(second))
        of_trials = (first.mean(1).var(ddof=1) + second.mean(1).var(ddof=1)) / 6
        expected.append(of_trials + part.variance - 2 / 200**2)
    assert np.mean(expected) == pytest.approx(np.var(seen), rel=0.1)  # standard error: 4 %


def test_the_part_by_hand():
    # One trial each: d = 0, 1, 0, -1, mean square 2/3; and two samples more, of 1 and -1.
    first, second = (Correctness.of(np.array([row])) for row in ([1, 1, 1, 0], [1, 0, 1, 1]))
    part = paired_part(first, second)
    assert part.variance == pytest.approx((2 / 3) / 4 + 2 / 16)
    assert part.spread == pytest.approx((2 / 3) / 4 / np.sqrt(3))


def test_points_that_get_the_same_right_differ_by_what_is_added():
    right = np.random.default_rng(0).random((4, 50)) < 0.9
    one = Correctness.of(right[:1])
    part = paired_part(one, one)
    assert (part.variance, part.spread) == (2 / 50**2, 0)
    everything = Correctness.of(np.ones((8, 50)))
    assert paired_part(everything, everything).variance == 2 / 50**2


# -- verdicts -------------------------------------------------------------------------------------


def point(name, right, trials=None, stored=8):
    values = right.mean(1)
    zeros, numbers = np.zeros(len(values), dtype=np.int64), np.arange(len(values))
    own = right[:stored].astype(np.uint8) if stored else None
    return Sample(name, {}, values, zeros, numbers, right=own)


def sweep(seed=0, points=3, trials=8, stored=(8, 8, 8), gain=0.0):
    kind = crossed(points, 360, 0.95, gain=gain)
    right = kind.draw(np.random.default_rng(seed), np.zeros(trials, dtype=int))
    return [point(f"p{at}", own, stored=stored[at]) for at, own in enumerate(right)]


def compared(points, **options):
    return compare_points(points, ACCURACY, n_val=360, generalise=True, **options)


def test_what_is_said_on_new_samples_says_how_it_is_known():
    paired, by_bound = compared(sweep()), compared(sweep(stored=(0, 0, 0)))
    assert "8 trials a point; on new samples, pairing these 360 validation samples)" in paired.basis
    assert "; on new samples, by a bound from these 360 validation samples)" in by_bound.basis
    for one, other in zip(paired.rows, by_bound.rows, strict=True):
        assert one.difference == other.difference
        assert one.high - one.low < 0.7 * (other.high - other.low)


def test_a_point_that_stored_nothing_is_compared_by_the_bound():
    points = sweep(stored=(8, 0, 8))
    some = compared(points, by="all")
    said = "pairing these 360 validation samples, but 2 of 3 differences by a bound)"
    assert said in some.basis
    every, none = compared(sweep(), by="all"), compared(sweep(stored=(0, 0, 0)), by="all")
    for row, one, other in zip(some.rows, every.rows, none.rows, strict=True):
        expected = other if "p1" in {row.first, row.second} else one
        assert (row.low, row.high) == (expected.low, expected.high)
    against = compared(points, baseline=1)
    assert "by a bound from these 360" in against.basis, "no pair of these can be paired"


def test_one_stored_trial_is_enough_and_is_told_less():
    every, one = compared(sweep()), compared(sweep(stored=(1, 1, 1)))
    for row, other in zip(every.rows, one.rows, strict=True):
        assert row.high - row.low < other.high - other.low


def test_pairs_of_trials_have_the_part_of_the_samples_too():
    points = sweep(points=2, gain=0.3)
    (row,) = compared(points, paired=True).rows
    part = paired_part(*[Correctness.of(one.right) for one in points])
    differences = points[0].trials - points[1].trials
    of_trials = differences.var(ddof=1) / 8
    freedom = (of_trials + part.variance) ** 2 / (of_trials**2 / 7 + part.spread**2)
    expected = 2 * stats.t.sf(abs(differences.mean()) / np.sqrt(of_trials + part.variance), freedom)
    assert 0.001 < expected < 0.5
    assert row.p_value == pytest.approx(expected)


def test_an_estimate_of_the_part_has_degrees_of_freedom():
    means = estimate_means([np.full(3, 0.9), np.full(3, 0.7)])  # trials show no luck
    for spread, freedom in ((0.0, np.inf), (0.01 / 3, 9)):
        (pair,) = compare_all(means, part=lambda *_, s=spread: SamplesPart(0.01, s))
        assert pair.p_value == pytest.approx(2 * stats.t.sf(2, freedom))


def test_points_that_are_all_right_are_not_told_apart():
    points = [point(name, np.ones((8, 360), dtype=bool)) for name in "ab"]
    (row,) = compared(points).rows
    assert (row.verdict, row.p_value) == ("not told apart", 1)
    assert row.high == pytest.approx(1.96 * np.sqrt(2) / 360, rel=1e-3)


def test_more_tunings_are_not_advised_where_only_more_samples_would_tell():
    luck, noise = np.array([-0.02, 0, 0.02])[np.arange(12) % 3], 1e-3 * np.cos(np.arange(24))
    values = [0.9 + luck + noise[:12], 0.88 + luck + noise[12:]]
    means = estimate_means(values, [np.arange(12) % 3] * 2)
    (few,) = compare_all(means)
    (some,) = compare_all(means, part=lambda *_: SamplesPart(1e-5))
    (none,) = compare_all(means, part=lambda *_: SamplesPart(1e-4))
    assert few.more_tunings < some.more_tunings
    assert (none.more_trials, none.more_tunings) == (None, None)


@pytest.mark.parametrize(
    "kind",
    [
        crossed(2, 360, 0.95),
        crossed(4, 2000, 0.95, chance=0.2),
        crossed(4, 360, 0.9, common=0.5, own=3, chance=0.1),
        unlike(4, 114, 0.97, (0.9, 0.05)),
    ],
    ids=lambda kind: kind.name,
)
def test_points_that_are_equal_on_all_samples_are_seldom_said_to_differ(kind):
    found = simulate(kind, 300)
    here, paired, _ = found.said
    assert here >= 0.3, "the samples of a sweep mislead"
    assert paired <= 0.06
    assert found.covered[0] < 0.7
    assert found.covered[1] >= 0.93


def test_pairing_finds_what_the_bound_does_not():
    found = simulate(crossed(2, 360, 0.95, gain=0.9), 100)
    _, paired, by_bound = found.said
    assert paired >= 0.85
    assert by_bound <= 0.4
    assert found.width[1] < 0.6 * found.width[2]


def test_the_best_ones_interval_is_of_new_samples_too():
    points = sweep()
    here = compare_points(points, ACCURACY, n_val=360).leader
    anywhere = compared(points).leader
    assert anywhere.low < here.low
    assert anywhere.high > here.high


# -- whole sweeps ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generalising") / "out"
    return folder, sweep_cancer(folder, trials=9)


def test_a_sweep_is_compared_by_pairing(swept, tmp_path):
    folder, results = swept
    paired = sweeper.load(folder).compare(generalise=True)
    assert "on new samples, pairing these 114 validation samples" in paired.basis
    assert str(results.compare(generalise=True)) == str(paired)
    (row,) = paired.rows
    found = stored_in(folder)
    points = [
        dataclasses.replace(
            point(str(place), np.zeros((9, 114)), stored=0),
            trials=one.perf_val,
            tunings=results.tunings[place],
            right=np.array([np.unpackbits(found[place, n][1])[:114] for n in range(8)]),
        )
        for place, one in enumerate(results)
    ]
    (expected,) = compare_points(points, ACCURACY, n_val=114, generalise=True).rows
    assert (row.low, row.high) == (expected.low, expected.high)
    copy = tmp_path / "earlier"
    shutil.copytree(folder, copy)
    forget(copy)
    by_bound = sweeper.load(copy).compare(generalise=True)
    assert "by a bound from these 114" in by_bound.basis, "as of an earlier release"
    assert str(sweeper.load(copy).compare()) == str(results.compare())
    (other,) = by_bound.rows
    assert row.high - row.low < 0.8 * (other.high - other.low)


def forget(folder):
    """Make a folder one that an earlier release has written."""
    with sqlite3.connect(folder / "sweep.db") as connection:
        connection.execute("UPDATE outcomes SET arrays = x''")


def test_what_is_stored_of_other_samples_is_refused(swept):
    _, results = swept
    bits = results.records[0].correct()[0]

    class Other:
        def correct(self):
            return {0: bits[:-1]}

    wrong = [dataclasses.replace(one, records=Other()) for one in results.point_trials]
    with pytest.raises(FolderError, match=r"width=2: .* is not stored for 114 samples"):
        sweeper.results.SweepResult(wrong, n_val=114).compare(generalise=True)


def test_where_each_trial_splits_the_data_anew_the_bound_remains(tmp_path):
    selector = sweeper.Grid(trials=3, hidden=[2, 3])
    results = run(tmp_path, selector, "one_set", hparams=UNTUNED)
    assert "by a bound from these 21 validation" in results.compare(generalise=True).basis
