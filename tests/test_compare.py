"""The verdict: against scipy and statsmodels, by hand, and on made-up sweeps of known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from benchmarks.verdicts import Scenario, normal, simulate, stuck
from sweeper.errors import UsageError
from sweeper.results import PointResult, PointTrials, SweepResult
from sweeper.stats.compare import (
    compare_all,
    compare_leader,
    compare_paired,
    holm_p_values,
    leader_p_values,
)
from sweeper.stats.components import estimate_means, moderate
from sweeper.stats.intervals import keep_within
from sweeper.stats.sampling import bound
from sweeper.stats.selection import best_interval

# Three points, two of them tuned three times as well: made up once and kept.
A = np.array([0.951, 0.962, 0.957, 0.948, 0.960, 0.955])
B = np.array([0.932, 0.943, 0.923, 0.936, 0.944, 0.930])
C = np.array([0.955, 0.948, 0.961, 0.950, 0.941, 0.957])
WHICH = np.arange(6) % 3


def pair_of(pairs, first, second):
    (found,) = [pair for pair in pairs if (pair.first, pair.second) == (first, second)]
    return found


# -- against others' programs ---------------------------------------------------------------------


def test_two_points_are_compared_as_by_welch():
    (pair,) = compare_leader(estimate_means([A, B]), 0)
    expected = scipy_stats.ttest_ind(A, B, equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert pair.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert (pair.low, pair.high) == pytest.approx((low, high), rel=1e-9)
    assert pair.verdict == 1


def test_all_pairs_are_welchs_by_holm():
    # statsmodels 0.15: multipletests(p, method="holm") of the p-values of scipy's ttest_ind.
    pairs = compare_all(estimate_means([A, B, C]))
    adjusted = {(0, 1): 0.00169095, (0, 2): 0.36079025, (2, 1): 0.00565559}
    assert {(pair.first, pair.second): pair.p_value for pair in pairs} == pytest.approx(
        adjusted, rel=1e-5
    )


def test_all_pairs_are_near_games_and_howells():
    # scipy.stats.tukey_hsd(…, equal_var=False): exact for one table, where ours is an inequality.
    pairs = compare_all(estimate_means([A, B, C]))
    theirs = scipy_stats.tukey_hsd(A, B, C, equal_var=False)
    ends = theirs.confidence_interval(0.95)
    for pair in pairs:
        half = (ends.high - ends.low)[pair.first, pair.second] / 2
        ours = max(pair.high - pair.difference, pair.difference - pair.low)
        assert half <= ours <= 1.08 * half
        p_value = theirs.pvalue[pair.first, pair.second]
        assert p_value > 0.05 or pair.p_value == pytest.approx(p_value, rel=0.5)


def test_variances_are_those_of_a_mixed_model():
    # statsmodels 0.15: MixedLM(values, np.ones((6, 1)), groups=WHICH).fit(reml=True), its scale,
    # cov_re and bse_fe.
    luck = np.array([0.0, 0.02, -0.02])[WHICH]
    (one,) = estimate_means([A + luck], [WHICH])
    assert one.within == pytest.approx(2.83337753761456e-06, rel=1e-4)
    assert one.between == pytest.approx(0.00053182, rel=1e-3)
    assert math.sqrt(one.variance) == pytest.approx(0.01333214, rel=1e-3)
    assert one.freedom == pytest.approx(2)


def test_variances_by_hand():
    x = [np.array([1.0, 2.0, 3.0, 5.0]), np.array([2.0, 2.0, 4.0, 6.0])]
    which = np.array([0, 1, 0, 1])
    first, second = estimate_means(x, [which] * 2)
    # Within: 2 + 4.5 and 2 + 8 over 2; alike, so the average 4.125.  Between: tunings' means 2 and
    # 3.5, 3 and 4, two trials each: mean squares 2.25 and 1, less than within: no more is seen.
    assert (first.mean, second.mean) == (2.75, 3.5)
    for one in (first, second):
        assert one.within == pytest.approx(4.125)
        assert one.between == 0
        assert one.variance == pytest.approx(4.125 / 4)
        assert one.freedom == pytest.approx(2)


def test_variances_that_are_alike_become_one_and_others_stay():
    freedom = np.full(4, 9.0)
    alike, kept = moderate(np.array([1.0, 1.1, 0.9, 1.0]), freedom)
    assert alike == pytest.approx([1.0] * 4)
    assert kept == pytest.approx([0] * 4)
    apart, kept = moderate(np.array([1.0, 100.0, 1e4, 1e-2]), freedom)
    assert np.all(kept > 0.9)
    assert apart == pytest.approx([1.0, 100, 1e4, 1e-2], rel=0.5)


# -- p-values -------------------------------------------------------------------------------------


def test_holm_by_hand():
    assert holm_p_values([0.04, 0.01, math.nan, 0.03]) == pytest.approx(
        [0.06, 0.03, math.nan, 0.06], nan_ok=True
    )


def test_the_leaders_p_values_by_hand():
    # The largest at its own level, the next times 3, the least times 6; none above a larger one's.
    assert leader_p_values([0.01, 0.2, 0.03]) == pytest.approx([0.06, 0.2, 0.09])
    assert leader_p_values([0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.04, 0.04])
    assert leader_p_values([math.nan, 0.5]) == pytest.approx([math.nan, 0.5], nan_ok=True)
    assert leader_p_values([]) == []


# -- what is said ---------------------------------------------------------------------------------


def point(name, values):
    values = np.asarray(values, dtype=float)
    return PointResult({"net": name}, 0.1, 0.4, 32, values, 1 - values, values, 1 - values)


def sweep_of(values, tunings=1, **more):
    points = [point(name, sample) for name, sample in values.items()]
    return SweepResult([trials_of(one, tunings) for one in points], **more)


def trials_of(point, tunings=1):
    numbers = np.arange(len(point.perf_val))
    return PointTrials.of(point, numbers, tunings=numbers % tunings)


THREE = {"wide": A, "narrow": B, "wide deep": C}


def test_a_comparison_says_what_it_rests_on():
    once, often = sweep_of(THREE).compare(), sweep_of(THREE, 3, n_val=1000).compare()
    assert "of these points as tuned, not of what another tuning would give" in once.basis
    assert "one tuning and 6 trials a point" in once.basis
    assert "3 tunings and 6 trials a point; on these 1,000 validation samples" in often.basis
    assert "as tuned" not in often.basis
    assert str(once).splitlines()[0] == once.basis


def test_two_points_by_a_part_of_their_names():
    results = sweep_of(THREE)
    (row,) = results.compare("narrow", "deep").rows
    assert (row.first, row.second, row.verdict) == ("net=narrow", "net=wide deep", "worse")
    assert row.difference == pytest.approx(B.mean() - C.mean())
    assert (
        str(results.compare("narrow", "deep"))
        .splitlines()[1]
        .startswith("  net=narrow is worse than net=wide deep by 0.0173 (")
    )
    (row,) = (
        results.compare("net=wide", "narrow").rows
        if False
        else results.compare("deep", "narrow").rows
    )
    assert row.verdict == "better"


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (("wid", "narrow"), "'wid' fits 2 points: net=wide; net=wide deep"),
        (("tall", "narrow"), "'tall' is no part of any point's name: net=wide; net=narrow; "),
        (("narrow", "net=narrow"), "both names match 'net=narrow'"),
        (("narrow",), "name two points, or a baseline and no points"),
        (("", "narrow"), "'' is no part of any point's name"),
    ],
)
def test_names_that_name_no_two_points(points, said):
    with pytest.raises(UsageError) as refused:
        sweep_of(THREE).compare(*points)
    assert said in str(refused.value)


def test_a_lower_loss_is_better():
    perf, loss = (sweep_of(THREE).compare(metric=metric) for metric in ("perf_val", "loss_val"))
    assert [row.verdict for row in perf.rows] == [row.verdict for row in loss.rows]
    for one, other in zip(perf.rows, loss.rows, strict=True):
        assert (one.first, one.second) == (other.first, other.second)
        assert one.difference == pytest.approx(-other.difference)
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert loss.leader.mean == pytest.approx(1 - perf.leader.mean)


def test_against_a_baseline():
    rows = sweep_of(THREE).compare(baseline="narrow").rows
    assert {row.second for row in rows} == {"net=narrow"}
    assert {row.verdict for row in rows} == {"better"}
    assert sweep_of(THREE).compare(baseline="narrow").leader is None


def test_trials_in_pairs_are_compared_by_their_differences():
    luck = np.array([0.3, -0.2, 0.1, 0.0, -0.3, 0.2])
    results = sweep_of({"a": 0.5 + luck, "b": 0.45 + luck + 0.002 * np.arange(6)})
    assert results.compare().rows[0].verdict == "not told apart"
    (row,) = results.compare(paired=True).rows
    expected = scipy_stats.ttest_rel(results[0].perf_val, results[1].perf_val)
    assert row.verdict == "better"
    assert row.p_value == pytest.approx(expected.pvalue)
    (turned,) = results.compare("b", "a", paired=True).rows
    assert (turned.verdict, turned.difference) == ("worse", -row.difference)


def test_pairs_are_made_by_number():
    samples = [np.array([1.0, 2.0, 3.5]), np.array([1.5, 0.9, 3.0])]
    zeros = [np.zeros(3, dtype=np.int64)] * 2
    (pair,) = compare_paired(samples, zeros, [np.array([0, 1, 2]), np.array([1, 0, 5])], 0)
    assert pair.difference == pytest.approx(((1.0 - 0.9) + (2.0 - 1.5)) / 2)


def test_other_validation_samples_would_change_more():
    perf = {name: np.round(values * 500) / 500 for name, values in THREE.items()}
    results = sweep_of(perf, n_val=500)
    here, anywhere = results.compare(), results.compare(generalise=True)
    assert here.rows[-1].verdict == "better"
    assert anywhere.rows[-1].verdict == "not told apart"
    assert "on new samples, by a bound from these 500 validation samples" in anywhere.basis
    with pytest.raises(UsageError, match="how many validation samples"):
        sweep_of(perf).compare(generalise=True)
    with pytest.raises(UsageError, match="not a fraction of 499 samples"):
        sweep_of(perf, n_val=499).compare(generalise=True)
    with pytest.raises(UsageError, match="not loss_val"):
        results.compare(metric="loss_val", generalise=True)


def test_the_bound_on_other_samples_is_reached():
    # 10 samples, one wrong in `first` and two others in `second`: the variance of the mean of
    # the differences -1, +1, +1, 0 … as they are.
    difference = np.array([-1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    assert bound(0.9, 0.8, 10).variance == pytest.approx(difference.var() / 10)


def test_what_would_tell():
    random = np.random.default_rng(4)
    first = random.normal(0.9, 0.02, 8)
    (row,) = sweep_of({"a": first, "b": first - 0.02}).compare().rows
    assert row.verdict == "not told apart"
    told = 8 + row.more_trials
    # As by the usual formula: 80 % power at the 5 % level, with what Student's t adds.
    normal_size = 2 * (2.8 * first.std(ddof=1) / 0.02) ** 2
    assert normal_size <= told <= 1.35 * normal_size
    assert row.advice == f"about {row.more_trials} more trials each would tell"


def test_where_only_more_tunings_would_tell():
    random = np.random.default_rng(1)
    luck = np.array([-0.03, 0.0, 0.03])[np.arange(12) % 3]
    noise = random.normal(0, 0.001, (2, 12))
    results = sweep_of({"a": 0.9 + luck + noise[0], "b": 0.88 + luck + noise[1]}, 3)
    (row,) = results.compare().rows
    assert row.more_trials is None
    assert row.more_tunings > 0
    assert "more tunings each would tell" in row.advice


def test_trials_of_one_tuning_are_no_independent_trials():
    luck = np.array([-0.01, 0.0, 0.01])[np.arange(12) % 3]
    noise = np.random.default_rng(5).normal(0, 0.001, (2, 12))
    values = {"a": 0.9 + luck + noise[0], "b": 0.91 + luck[::-1] + noise[1]}
    assert sweep_of(values).compare().rows[0].verdict == "better"
    assert sweep_of(values, 3).compare().rows[0].verdict == "not told apart"


def test_one_that_tunes_wildly_does_not_hide_what_the_others_show():
    random = np.random.default_rng(6)
    sets = {name: mean + random.normal(0, 0.004, 12) for name, mean in (("a", 0.95), ("b", 0.92))}
    wild = 0.7 + np.array([-0.2, 0.0, 0.2])[np.arange(12) % 3] + random.normal(0, 0.004, 12)
    rows = sweep_of({**sets, "c": 0.92 + random.normal(0, 0.004, 12), "wild": wild}, 3).compare()
    assert {row.second for row in rows.rows if row.verdict == "better"} >= {"net=b", "net=c"}


def test_a_comparison_as_markdown_and_as_a_data_frame():
    comparison = sweep_of({"a|b": A, "narrow": B}).compare()
    head, _, row, *_ = comparison.to_markdown().splitlines()
    assert head.startswith("| first | second | difference | interval | adjusted p | verdict |")
    assert row.startswith("| net=a\\|b | net=narrow | 0.0208 | ")
    frame = comparison.to_dataframe()
    assert frame["verdict"].tolist() == ["better"]
    assert frame["difference"].tolist() == [pytest.approx(A.mean() - B.mean())]


def test_the_summary_ends_in_the_verdict():
    results = sweep_of(THREE, 3)
    said = str(results.compare())
    assert said in str(results.summary())
    assert "| first | second |" in results.summary().to_markdown()


def test_diverged_losses_are_left_out_and_said():
    results = sweep_of(THREE)
    losses = np.where(np.arange(6) == 0, math.nan, results[0].loss_val)
    points = [results[0]._replace(loss_val=losses), *results[1:]]
    comparison = SweepResult(list(map(trials_of, points))).compare(metric="loss_val")
    assert comparison.leader.name == "net=wide deep", "a point that diverged does not lead"
    assert comparison.caveats == ("1 trial that diverged, without a loss, left out",)


# -- intervals ------------------------------------------------------------------------------------


def test_the_best_ones_interval_counts_its_rivals():
    (one,) = estimate_means([A])
    alone, among = best_interval(one, 0), best_interval(one, 19)
    assert alone == pytest.approx(
        scipy_stats.t.interval(0.95, 5, A.mean(), scipy_stats.sem(A)), rel=1e-9
    )
    assert among[1] == alone[1]
    assert among[0] < alone[0]


def test_intervals_stay_within_their_bounds():
    assert keep_within(0.5, 0.1, 0.2, (0, 1)) == (0.4, 0.7)
    low, high = keep_within(0.99, 0.02, 0.02, (0, 1))
    # logit(.99) = 4.59512, and .02 / (.99 × .01) = 2.0202.
    assert (low, high) == pytest.approx((0.92923, 0.99866), abs=1e-5)
    assert keep_within(1.0, 0.1, 0.1, (0, 1)) == (0.9, 1.0)
    assert keep_within(0.99, 0.02, 0.02, None) == pytest.approx((0.97, 1.01))


# -- made-up sweeps -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario("as tuned", 4, 1, 8, normal(4)),
        Scenario("tuned", 4, 3, 12, normal(4, 0.3)),
        Scenario("tuned, spreads", 4, 3, 12, normal(4, 1, (4, 4))),
        Scenario("stuck", 4, 1, 12, stuck(4, 1 / 6, 0.1), 0.97 - 0.87 / 6, bounded=True),
    ],
    ids=lambda scenario: scenario.name,
)
def test_equal_points_are_seldom_said_to_differ(scenario):
    found = simulate(scenario, 200)
    assert found.said <= 0.085  # 5 % and two standard errors of 200 sweeps
    assert found.said_of_all <= 0.085
    assert found.clear >= 0.915
    assert scenario.bounded or found.best_covered >= 0.93


def test_a_better_point_is_found():
    gain = 2 * math.sqrt(1.3)
    found = simulate(Scenario("better", 4, 3, 12, normal(4, 0.3), gain=gain), 200)
    assert found.found >= 0.75
    assert found.said <= 0.085
