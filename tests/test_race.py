"""`Race`: what its test promises, how it asks, and through the whole loop of a sweep."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import sweeper
from sweeper.errors import UsageError
from sweeper.search import FixedSweep, Grid, Race
from sweeper.search.domain import Domain
from sweeper.search.selector import TrialResults
from sweeper.stats.sequential import Sample, estimate_means, plan_looks, spend, step_down
from sweeper.testing import toy
from sweeper.testing.selectors import results_of
from sweeper.testing.toy import ToyPlan, draw
from test_study import TROUBLE, Run, resumed
from toys import some_fail

# -- the statistics -------------------------------------------------------------------------------


def sample(values, tunings=None):
    values = np.asarray(values, dtype=float)
    places = np.arange(len(values))
    return Sample(values, places if tunings is None else places % tunings)


def test_looks_grow_and_are_multiples_of_the_tunings_but_for_the_last():
    assert plan_looks(3, 30) == (3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 30)
    assert plan_looks(3, 31, tunings=3) == (3, 6, 9, 12, 15, 18, 24, 30, 31)
    assert plan_looks(2, 4, tunings=5) == (4,)
    assert plan_looks(5, 5) == (5,)


@pytest.mark.parametrize("looks", [(3,), (2, 5, 7), plan_looks(3, 100, 3)])
def test_all_looks_together_spend_alpha(looks):
    parts = [spend(0.05, looks, place) for place in range(len(looks))]
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(0.05)


def test_two_points_that_spread_much_alike_are_compared_by_students_t():
    # The logarithms of equal variances differ less than chance would have them: all is pooled.
    one, other = np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 5.0, 6.0])
    means = estimate_means([sample(one), sample(other)])
    expected = stats.ttest_ind(one, other, alternative="less")
    assert means.mean == pytest.approx([2.5, 4.5])
    assert means.p_values([0], 1)[0] <= expected.pvalue * 1.01
    assert means.p_values([1], 0)[0] == pytest.approx(1 - means.p_values([0], 1)[0])
    assert means.p_values([0], 1, margin=2.0)[0] == pytest.approx(0.5)


def test_spreads_that_differ_much_are_each_points_own():
    rng = np.random.default_rng(0)
    values = [scale * rng.standard_normal(12) for scale in (0.01, 1, 100) * 3]
    means = estimate_means([sample(each) for each in values])
    own = np.array([each.var(ddof=1) / 12 for each in values])
    assert means.variance[[2, 5, 8]] == pytest.approx(own[[2, 5, 8]], rel=0.2)
    assert (means.variance[[0, 3, 6]] < own[2] / 2).all()
    assert (means.freedom < 14).all()


def test_spreads_that_are_alike_are_pooled():
    rng = np.random.default_rng(0)
    means = estimate_means([sample(rng.standard_normal(6)) for _ in range(40)])
    assert means.variance == pytest.approx(np.full(40, 1 / 6), rel=0.45)
    assert (means.freedom > 11).all()


@pytest.mark.parametrize("between", [0.0, 0.3, 4.0])
@pytest.mark.parametrize("repeats", [2, 10])
def test_more_trials_of_the_same_tunings_never_tell_more_than_the_tunings(between, repeats):
    rng = np.random.default_rng(1)
    points, tunings = 400, 3
    tuned = rng.standard_normal((points, tunings)) * between**0.5
    trials = np.tile(tuned, repeats) + rng.standard_normal((points, tunings * repeats))
    means = estimate_means([sample(values, tunings) for values in trials])
    true = between / tunings + 1 / (tunings * repeats)
    assert means.variance.mean() == pytest.approx(true, rel=0.25)
    assert means.variance.mean() > 0.9 * true
    assert means.shared == points * (tunings - 1)


def test_values_that_do_not_vary_prove_nothing():
    means = estimate_means([sample([0.0, 0.0, 0.0]), sample([1.0, 1.0, 1.0])])
    assert means.p_values([0], 1)[0] == 1.0
    means = estimate_means([sample([1.0] * 6, 3), sample([0.0] * 6, 3), sample([5.0, 5.0])])
    assert (means.p_values([0, 1], 2) == 1.0).all()


def test_a_point_that_is_worse_leaves_its_share_to_the_others():
    p_values = {7: 0.004, 8: 0.2, 9: 0.0045}
    assert step_down(p_values, 0.05, racing=4, rivals=3) == pytest.approx({7: 0.048, 9: 0.0405})
    assert step_down(p_values, 0.047, racing=4, rivals=3) == {}
    assert step_down({}, 0.05, racing=1, rivals=1) == {}


# -- the selector ---------------------------------------------------------------------------------


def drive(race, value, tunings=1, fails=lambda _params, _number: False):
    """Run a race in which trial `number` of a point comes to `value(params, number)`."""
    race.on_begin(tunings)
    counts, rounds = {}, []
    while race.has_more_trials():
        asked = []
        while (answer := race.get_next_trials()) is not None:
            asked.append(answer)
        rounds.append({params[0]: trials for params, trials in asked})
        for params, trials in asked:
            first = counts.get(params, 0)
            numbers = range(first, first + trials)
            counts[params] = first + trials
            ended = [number for number in numbers if not fails(params, number)]
            if ended:
                values = np.array([value(params, number) for number in ended])
                race.on_results(results_of(params, 0, values, -values, values, -values))
            for _ in range(trials - len(ended)):
                race.on_failed(params, "trial", "boom")
    return {params[0]: trials for params, trials in counts.items()}, rounds


def noise(params, number, what=""):
    return float(np.random.default_rng([params[0], number, len(what)]).standard_normal())


def better_by(step):
    return lambda params, number: step * params[0] + noise(params, number)


def race_of(points, *args, **options):
    return Race(FixedSweep.with_fixed_trials([(n,) for n in range(points)], 1), *args, **options)


def test_far_worse_points_get_no_more_and_the_best_wins():
    race = race_of(5, 30)
    taken, rounds = drive(race, better_by(4))
    assert race.left == [(4,)]
    assert [out.params for out in race.eliminated[:1]] == [(0,)]
    assert taken[0] <= taken[3] == taken[4] < 20
    assert all(
        out.p_value <= 0.05 and out.trials == taken[out.params[0]] for out in race.eliminated
    )
    assert rounds[0] == dict.fromkeys(range(5), 3)
    assert all(len(set(each.values())) == 1 for each in rounds), "all that are left get as many"
    assert "left: 4" in race.summary()
    assert race.summary().count("worse, after") == 4


def test_ties_run_to_the_end_and_are_a_result():
    race = race_of(4, 20)
    taken, _ = drive(race, better_by(0))
    assert taken == dict.fromkeys(range(4), 20)
    assert race.eliminated == []
    assert race.summary().endswith("(not told apart)")


def test_a_smaller_loss_is_better():
    race = race_of(3, 30, metric="loss_val")
    drive(race, better_by(5))
    assert race.left == [(2,)]  # `drive` tells losses that are minus the performance


@pytest.mark.parametrize(("direction", "best"), [("maximize", 2), ("minimize", 0)])
def test_a_race_compares_a_metric_that_the_problem_declares(direction, best):
    race = race_of(3, 3, metric="f1", direction=direction)
    race.on_begin(1)
    while (answer := race.get_next_trials()) is not None:
        params, trials = answer
        values = dict.fromkeys(sweeper.records.METRICS, np.zeros(trials))
        values["f1_val"] = params[0] + 0.01 * np.arange(trials)
        race.on_results(TrialResults(params, np.arange(trials), values))
    assert race.left == [(best,)]


def test_a_loss_that_is_not_finite_counts_as_the_worst():
    race = race_of(3, 30, metric="loss_val")
    drive(race, lambda params, number: np.nan if params[0] == 2 else better_by(5)(params, number))
    assert race.left == [(1,)]
    race = race_of(3, 6, metric="loss_val")
    drive(race, lambda _params, _number: np.nan)
    assert race.eliminated == []


def test_keep_stops_where_the_best_few_are_known():
    race = race_of(6, 40, keep=2)
    taken, _ = drive(race, lambda params, number: 6 * (params[0] >= 4) + noise(params, number))
    assert set(race.left) == {(4,), (5,)}
    assert max(taken.values()) < 20
    # The second is far worse than the first, and no less wanted.
    race = race_of(6, 40, keep=2)
    drive(race, lambda params, number: [0, 0, 0, 0, 8, 40][params[0]] + noise(params, number))
    assert race.left == [(5,), (4,)]
    race = race_of(2, 40, keep=2)
    assert drive(race, better_by(9))[0] == {0: 3, 1: 3}, "nothing is to be decided"


def test_margin_ends_it_where_all_that_are_left_are_equivalent():
    race = race_of(3, 400, margin=1.0)
    taken, _ = drive(race, better_by(0))
    assert race.equivalent
    assert len(set(taken.values())) == 1
    assert 20 < taken[0] < 100
    assert race.summary().endswith("(equivalent within 1)")
    race = race_of(3, 40, margin=0.1)
    assert drive(race, better_by(0))[0] == dict.fromkeys(range(3), 40)
    assert not race.equivalent


def test_trials_of_the_same_tunings_do_not_eliminate():
    # What differs is the luck of three tunings; taken for 60 independent trials it would be proof.
    def tuned(params, number):
        return 4 * noise(params, number % 3, "tuning") + noise(params, number)

    honest, naive = race_of(6, 60), race_of(6, 60)
    _, rounds = drive(honest, tuned, tunings=3)
    assert honest.eliminated == []
    assert all(trials % 3 == 0 for each in rounds for trials in each.values())
    drive(naive, tuned, tunings=1)
    assert naive.eliminated


def test_failures_never_stall_it_and_do_not_count():
    race = race_of(4, 30)
    taken, _ = drive(race, better_by(4), fails=lambda params, number: number % 4 == params[0])
    assert race.left == [(3,)]
    race = race_of(4, 30)
    taken, _ = drive(race, better_by(4), fails=lambda params, _number: params[0] == 3)
    assert race.failed == [(3,)]
    assert (taken[3], race.left) == (3, [(2,)])
    assert "3: failed" in race.summary()


@pytest.mark.parametrize("tunings", [1, 3])
def test_a_single_trial_that_fails_is_not_the_end_of_its_point(tunings):
    race = race_of(3, 12)
    taken, _ = drive(race, better_by(0), tunings, fails=lambda _params, number: number >= 3)
    assert taken == dict.fromkeys(range(3), 12)
    assert race.failed == []


def test_which_tuning_is_not_guessed_where_a_trial_failed():
    race = race_of(2, 12)
    drive(race, better_by(0), 3, fails=lambda params, number: params == (0,) and number == 4)
    first, second = race._runners.values()
    assert first.tunings == [0, 1, 2] * 3
    assert second.tunings == [0, 1, 2] * 4


def test_the_wrapped_selector_is_told_what_the_race_is_told():
    class Told(Grid):
        def __init__(self):
            super().__init__(trials=1, a=[1, 2])
            self.told = []

        def on_opened(self, folder):
            self.told.append(folder)

        def on_begin(self, tunings):
            self.told.append(tunings)

        def on_hparams_found(self, params, *found):
            self.told.append((params, found))

        def on_trials_completed(self, params, *columns):
            self.told.append((params, [column.tolist() for column in columns]))

        def on_failed(self, params, stage, error):
            self.told.append((params, stage, error))

    inner = Told()
    race = Race(inner, 3)
    race.on_opened(Path("/somewhere"))
    race.on_begin(2)
    first, _ = race.get_next_trials(), race.get_next_trials()
    race.on_hparams_found(first[0], 0.1, 0.2, 16)
    race.on_results(results_of(first[0], 0, *[np.array([float(n)]) for n in range(4)]))
    race.on_failed({"a": 2}, "lr_range", "boom")
    assert inner.told == [
        Path("/somewhere"),
        2,
        ({"a": 1}, (0.1, 0.2, 16)),
        ({"a": 1}, [[0.0], [1.0], [2.0], [3.0]]),
        ({"a": 2}, "lr_range", "boom"),
    ]


def test_points_are_known_by_their_values():
    points = [{"act": np.float64(1), "n": 2}, {"n": 2, "act": 1.0}, {"act": 1, "n": 2}]
    race = Race(FixedSweep.with_fixed_trials(points, 1), 5)
    assert [race.get_next_trials()[0] for _ in range(2)] == [points[0], points[2]]
    assert race.get_next_trials() is None
    race.on_results(results_of({"n": 2, "act": 1.0}, 0, *[np.ones(3)] * 4))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"selector": 7}, "7 is a int: give a Domain, a list of points, or a selector"),
        ({"selector": race_of(2, 5)}, "not adaptive"),
        ({"max_trials": 2}, "max_trials=2: it must be at least min_trials, which is 3"),
        ({"max_trials": 9.0}, "max_trials=9.0"),
        ({"min_trials": 1}, "min_trials=1: it must be 2 or more"),
        ({"alpha": 0}, "alpha=0: it must be a number above 0 and below 1"),
        ({"alpha": "5%"}, "alpha='5%'"),
        ({"keep": 0}, "keep=0: it must be 1 or more"),
        ({"margin": -1}, "margin=-1: it must be a finite number"),
        ({"margin": float("nan")}, "margin=nan"),
        ({"metric": "f1"}, "metric='f1': is it better when large or small"),
        ({"direction": "minimize"}, "the direction of perf_val is maximize"),
    ],
)
def test_a_race_checks_what_it_is_given(change, said):
    arguments = {"selector": FixedSweep([]), "max_trials": 9, **change}
    with pytest.raises(UsageError, match=said):
        Race(**arguments)


# -- through the loop of a sweep ------------------------------------------------------------------


def toy_race():
    points = [(place, "x") for place in range(6)]
    return Race(FixedSweep.with_fixed_trials(points, 1), 12, min_trials=3)


@pytest.fixture
def uneven(monkeypatch):
    """Points of the toy problem of which some are far better than others, tuned twice."""

    def metrics(params, number, _stage):
        value = (params[0] // 2) + 0.1 * draw(params, "trial", number, "perf_val")
        return dict.fromkeys(sweeper.records.METRICS, value)

    monkeypatch.setattr(toy, "metrics_of", metrics)
    monkeypatch.setattr(ToyPlan, "tunings", 2)


def story(run):
    """What was asked and told, and what came of it."""
    race = run.selector
    return run.folder.open().log("Race"), race.eliminated, race.left, race.failed


@pytest.mark.usefixtures("uneven")
@pytest.mark.parametrize("how", [{}, TROUBLE, {"failing": some_fail}], ids=["quiet", "bad", "some"])
def test_a_race_asks_the_same_on_any_number_of_cores_and_when_resumed(how):
    reference = story(Run(toy_race(), 1, **how).run())
    _, eliminated, left, failed = reference
    assert len(eliminated) >= 2
    assert len(eliminated) + len(left) + len(failed) == 6
    assert bool(failed) == bool(how)
    for slots in (2, 8):
        assert story(Run(toy_race(), slots, seed=slots, deaths=0.2, **how).run()) == reference
    for stop in ((2, "nothing"), (7, "events"), (19, "decisions")):
        run = resumed(toy_race, [stop, stop], slots=2, deaths=0.1, **how)
        assert story(run) == reference


@pytest.mark.usefixtures("uneven")
def test_a_race_is_told_the_number_of_tunings_before_it_is_asked():
    run = Run(toy_race(), 2).run()
    assert {entry.trials for entry in run.decisions if getattr(entry, "trials", 0)} <= {2, 4}
    assert run.selector._looks == plan_looks(3, 12, 2)


# -- what it promises, measured (fewer repetitions than benchmarks/race.py) -----------------------


@functools.cache
def races(delta, tunings, between, count=30):
    found = []
    rng = np.random.default_rng(3)
    for _ in range(count):
        tuned = rng.standard_normal((10, tunings)) * between**0.5
        trials = np.tile(tuned, 30 // tunings) + rng.standard_normal((10, 30))
        trials[3] += delta
        race = race_of(10, 30)
        taken, _ = drive(
            race, lambda params, number, trials=trials: trials[params[0], number], tunings
        )
        found.append((race, sum(taken.values())))
    return found


@pytest.mark.parametrize(("tunings", "between"), [(1, 0.0), (3, 1.0)])
def test_equal_points_are_rarely_dropped(tunings, between):
    assert sum(bool(race.eliminated) for race, _ in races(0, tunings, between)) <= 2


def test_one_that_is_better_by_two_standard_deviations_wins_early():
    found = races(2, 1, 0.0)
    assert sum(race.left == [(3,)] for race, _ in found) >= 29
    assert np.mean([taken for _, taken in found]) <= 0.4 * 300


def test_the_points_of_a_race_may_be_given_as_a_domain_or_a_list():
    def asked(points):
        race = Race(points, 5)
        return [race.get_next_trials()[0] for _ in range(3)]

    expected = [{"a": 1}, {"a": 2}, {"a": 3}]
    assert asked(Grid(trials=1, a=[1, 2, 3])) == expected
    assert asked(Domain(a=[1, 2, 3])) == expected
    assert asked(expected) == expected
