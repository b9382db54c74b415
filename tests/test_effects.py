"""Which parameter matters: against statsmodels, by hand, and on made-up sweeps of known truth."""

from __future__ import annotations

import itertools
import math
import sys

import numpy as np
import pytest

from sweeper.errors import UsageError
from sweeper.results import PointResult, PointTrials, SweepResult
from sweeper.stats.components import estimate_means
from sweeper.stats.effects import anova, forest

# Twelve points of four trials, made up once and kept.
CELLS = list(itertools.product([8, 16, 32], ["Tanh", "ReLU"], [1, 2]))
TRIALS = np.array(
    [
        [0.8020, 0.8050, 0.7993, 0.7931],
        [0.7975, 0.7921, 0.8026, 0.8154],
        [0.8071, 0.8058, 0.8169, 0.8156],
        [0.8131, 0.8027, 0.8117, 0.8190],
        [0.7906, 0.7994, 0.7850, 0.7911],
        [0.7856, 0.8016, 0.7913, 0.8067],
        [0.8056, 0.8021, 0.7788, 0.7986],
        [0.8035, 0.8051, 0.7887, 0.7992],
        [0.7982, 0.7999, 0.8186, 0.7999],
        [0.8077, 0.8168, 0.8022, 0.8069],
        [0.8091, 0.8086, 0.7957, 0.8088],
        [0.8216, 0.7925, 0.8166, 0.8092],
    ]
)
GRID = [{"hidden": h, "act": a, "depth": d} for h, a, d in CELLS]


def sweep_of(params, values, tunings=1, **more):
    points = [
        PointResult(one, 0.1, 0.4, 32, trials, 1 - trials, trials, 1 - trials)
        for one, trials in zip(params, map(np.asarray, values), strict=True)
    ]
    return SweepResult([trials_of(one, tunings) for one in points], **more)


def trials_of(point, tunings, **others):
    numbers = np.arange(len(point.perf_val))
    return PointTrials.of(point, numbers, tunings=numbers % tunings, **others)


def made_up(params, mean, tunings, trials, seed=0, between=0.01, within=0.01):
    random = np.random.default_rng(seed)
    values = []
    for one in params:
        luck = random.normal(0, between, tunings)[np.arange(trials) % tunings]
        values.append(mean(one) + luck + random.normal(0, within, trials))
    return values


def by_name(effects):
    return {one.name: one for one in effects.effects}


# -- against statsmodels 0.15 ---------------------------------------------------------------------


def test_a_grid_is_analysed_as_by_statsmodels():
    # anova_lm(ols("y ~ C(h) * C(a) * C(d)", 48 trials).fit(), typ=2)["F"]: with a trial a tuning,
    # what varies between tunings is what varies between trials.
    found = by_name(sweep_of(GRID, TRIALS, tunings=4).effects())
    expected = {
        "hidden": (2, 8.668175659),
        "act": (1, 4.67388019),
        "depth": (1, 1.605827977),
        "hidden × act": (2, 1.251146934),
        "hidden × depth": (2, 0.1608996089),
        "act × depth": (1, 0.05752077115),
        "what is left of points": (2, 0.0190607535),
    }
    assert {name: found[name].statistic for name in expected} == pytest.approx(
        {name: statistic for name, (_, statistic) in expected.items()}, rel=1e-6
    )
    for name, (freedom, _) in expected.items():
        assert 0.85 * freedom <= found[name].freedom <= freedom + 1e-9
    assert found["hidden"].error_freedom < 36
    # Theirs, all points being taken as equally sure: 0.000845, of seven.
    assert found["hidden"].p_value == pytest.approx(7 * 0.00084533, rel=0.7)


def test_squares_of_type_two_where_a_point_is_missing():
    # anova_lm(ols("y ~ (C(h) + C(a) + C(d)) ** 2", means without the first point).fit(), typ=2)
    levels = {
        "h": np.array([[8, 16, 32].index(h) for h, _, _ in CELLS[1:]]),
        "a": np.array([["Tanh", "ReLU"].index(a) for _, a, _ in CELLS[1:]]),
        "d": np.array([d - 1 for _, _, d in CELLS[1:]]),
    }
    y = TRIALS[1:].mean(axis=1)
    design = anova._Design(levels)
    terms = design.terms(pairs=True)
    squares = {term: float(y @ design.projection(term, terms) @ y) for term in terms}
    assert squares == pytest.approx(
        {
            ("h",): 0.000316135625,
            ("a",): 4.11075625e-05,
            ("d",): 2.74730625e-05,
            ("h", "a"): 2.152020833e-05,
            ("h", "d"): 3.906614583e-06,
            ("a", "d"): 3.828125e-07,
        },
        rel=1e-6,
    )
    assert float(y @ design.rest(pairs=True) @ y) == pytest.approx(5.5125e-07, rel=1e-6)


def test_one_trial_each_is_compared_with_what_is_left_of_points():
    # anova_lm(ols("y ~ C(h) + C(a) + C(d)", means without the first point).fit(), typ=2)
    means = TRIALS[1:].mean(axis=1)[:, None]
    effects = sweep_of(GRID[1:], means).effects()
    found = by_name(effects)
    f = {name: found[name].statistic for name in ("hidden", "act", "depth")}
    assert f == pytest.approx({"hidden": 21.33446923, "act": 7.727392181, "depth": 2.190204572})
    p = [found[name].p_value for name in ("hidden", "act", "depth")]
    assert p == pytest.approx([3 * 0.001873691686, 2 * 0.03200466554, 0.1893843003])
    assert [found[name].verdict for name in f] == ["matters", "not told", "not told"]
    assert found["hidden"].error_freedom == pytest.approx(6)
    assert "what is left of points (pairs too), tuning and seed" in found
    assert "compared with what is left of points" in effects.basis


# -- what is said ---------------------------------------------------------------------------------


def test_shares_by_hand():
    # hidden adds ± .1, so .01; tunings differ by ± .02 and trials of each by ± .01.
    params = [{"hidden": 8}, {"hidden": 32}]
    shift = np.array([-0.03, -0.01, 0.01, 0.03])
    which = np.array([0, 0, 1, 1])
    points = [
        PointResult(one, 0.1, 0.4, 32, *[mean + shift] * 4)
        for one, mean in zip(params, (0.4, 0.6), strict=True)
    ]
    results = SweepResult([PointTrials.of(one, np.arange(4), tunings=which) for one in points])
    found = by_name(results.effects())
    seed = 4 * 0.01**2 / 2
    tuning = 2 * 0.02**2 - seed / 2
    hidden = 0.1**2 - (seed / 4 + tuning / 2) / 2
    total = seed + tuning + hidden
    shares = {name: one.share for name, one in found.items()}
    assert shares == pytest.approx(
        {"hidden": hidden / total, "tuning": tuning / total, "seed": seed / total}
    )


@pytest.mark.parametrize(("tunings", "trials"), [(3, 6), (3, 3), (1, 6), (1, 1)])
@pytest.mark.parametrize("missing", [0, 1, 3])
def test_shares_are_parts_of_one(tunings, trials, missing):
    grid = GRID[missing:]
    values = made_up(grid, lambda one: 0.8 + 0.001 * one["hidden"], tunings, trials)
    for metric in ("perf_val", "loss_val"):
        effects = sweep_of(grid, values, tunings).effects(metric).effects
        assert sum(one.share for one in effects) == pytest.approx(1)
        for one in effects:
            assert 0 <= one.low <= one.share <= one.high <= 1


def test_a_parameter_and_a_pair_that_matter_are_found():
    def mean(one):
        return 0.8 + 0.04 * (one["hidden"] == 32) + 0.04 * (one["act"] == one["depth"])

    grid = [
        {"hidden": h, "act": a, "depth": d}
        for h, a, d in itertools.product([8, 32], [1, 2], [1, 2])
    ]
    effects = sweep_of(grid, made_up(grid, mean, 3, 12), 3).effects()
    told = {one.name for one in effects.effects if one.verdict == "matters"}
    assert told == {"hidden", "act × depth"}
    assert "★ hidden=32: 0.86" in str(effects)
    assert "★ act=" in str(effects)
    assert "hidden=8 act=1" not in str(effects)


def test_a_lower_loss_is_better():
    values = made_up(GRID, lambda one: 0.8 + 0.001 * one["hidden"], 3, 6)
    perf, loss = (sweep_of(GRID, values, 3).effects(one) for one in ("perf_val", "loss_val"))
    best = [[one.name for one in each.levels if one.best] for each in (perf, loss)]
    assert best[0] == best[1]
    assert best[0][0] == "hidden=32"
    assert [one.p_value for one in perf.effects] == pytest.approx(
        [one.p_value for one in loss.effects], nan_ok=True
    )


def test_means_at_a_value_count_missing_points_in():
    # depth adds .1, act adds .02; without (Tanh, 2) the plain mean of Tanh would be too low.
    grid = [{"act": a, "depth": d} for a, d in (("Tanh", 1), ("ReLU", 1), ("ReLU", 2))]
    values = [0.5 + 0.1 * one["depth"] + 0.02 * (one["act"] == "ReLU") for one in grid]
    noise = np.array([-0.001, 0.0, 0.001])
    effects = sweep_of(grid, [value + noise for value in values]).effects()
    means = {one.name: one.mean for one in effects.levels}
    assert means["act=Tanh"] == pytest.approx(0.65)
    assert means["act=ReLU"] == pytest.approx(0.67)


def test_intervals_of_means_are_students_for_equally_sure_points():
    from scipy import stats as scipy_stats

    grid = [{"hidden": 8}, {"hidden": 16}, {"hidden": 32}]
    values = [TRIALS[0], TRIALS[0] + 0.1, TRIALS[0] + 0.05]
    levels = sweep_of(grid, values).effects().levels
    # One point a value: Student's t with 3 degrees of freedom, 5 % shared by three.
    half = scipy_stats.t.ppf(1 - 0.025 / 3, 3) * TRIALS[0].std(ddof=1) / 2
    assert levels[0].high - levels[0].mean == pytest.approx(half)


def test_points_that_could_not_be_tuned_are_left_out_and_named():
    values = [trials.copy() for trials in TRIALS]
    values[1] -= 0.7
    trials = list(sweep_of(GRID, values, 4).point_trials)
    trials[1] = trials_of(trials[1].point, 4, flag="is no better than a constant")
    effects = SweepResult(trials).effects()
    assert "11 points" in effects.basis
    assert "left out: hidden=8 act=Tanh depth=2 is no better than a constant" in effects.caveats
    assert by_name(effects)["depth"].share < 0.1


def test_diverged_losses_are_left_out_and_said():
    results = sweep_of(GRID, TRIALS, 4)
    lost = np.where(np.arange(4) == 0, math.nan, results[0].loss_val)
    points = [results[0]._replace(loss_val=lost), *results[1:]]
    again = SweepResult([trials_of(one, 4) for one in points])
    effects = again.effects("loss_val")
    assert effects.caveats == ("1 trial that diverged, without a loss, left out",)
    assert all(math.isfinite(one.share) for one in effects.effects)


def test_parameters_that_changed_only_together_are_not_told_apart():
    grid = [{"hidden": h, "rate": h / 100, "act": a} for h, a, d in CELLS if d == 1]
    effects = sweep_of(grid, TRIALS[::2], 4).effects()
    assert any("not separable: hidden, rate" in caveat for caveat in effects.caveats)
    assert sum(one.share for one in effects.effects) == pytest.approx(1)


@pytest.mark.parametrize(
    ("params", "values", "said"),
    [
        ([], [], "no point has trials"),
        ([{"a": 1}], [[0.5]], "only one point has trials"),
        ([{"a": 1}, {"a": 2}], [[0.5], [0.6]], "one trial of each point"),
        ([{"a": 1}, {"a": 2}], [[0.5, 0.5], [0.6, 0.6]], "no variation was seen between trials"),
        ([{"a": 1}, {"a": 2}], [[], []], "no point has trials"),
        ([{"a": 1}, {"a": 1, "b": 2}], [[], [0.5, 0.6]], "only one point has trials"),
    ],
)
def test_too_little_to_say(params, values, said):
    effects = sweep_of(params, [np.array(one, float) for one in values]).effects()
    assert said in str(effects)
    assert (effects.effects, effects.levels) == ((), ())
    assert said in effects.to_markdown()
    assert len(effects.to_dataframe()) == 0


def test_one_tuning_with_few_points_speaks_of_them_as_tuned():
    effects = sweep_of([{"a": 1}, {"a": 2}], [TRIALS[0], TRIALS[2]]).effects()
    assert "so of these points as tuned" in effects.basis
    found = by_name(effects)
    assert found["a"].verdict in {"matters", "not told"}
    assert set(found) == {"a", "seed"}


def test_effects_as_markdown_and_as_data_frames():
    grid = [{"net": net} for net in ("a|b", "c")]
    effects = sweep_of(grid, [TRIALS[0], TRIALS[0] + 0.1], n_val=360).effects()
    assert "on these 360 validation samples" in effects.basis
    lines = effects.to_markdown().splitlines()
    assert lines[2].startswith("| effect | share of variance | interval | F | adjusted p |")
    assert any(line.startswith("| net=a\\|b | ") for line in lines)
    frame = effects.to_dataframe()
    assert frame["name"].tolist() == ["net", "seed"]
    assert frame["share"].sum() == pytest.approx(1)
    assert effects.to_dataframe(levels=True)["best"].tolist() == [False, True]


def test_an_unknown_metric_is_refused():
    with pytest.raises(UsageError, match="choose one of perf_train"):
        sweep_of(GRID, TRIALS).effects("accuracy")


# -- random search --------------------------------------------------------------------------------


def drawn(points, seed=0):
    random = np.random.default_rng(seed)
    return [
        {
            "width": int(random.integers(8, 128)),
            "junk": float(random.uniform()),
            "act": str(random.choice(["Tanh", "ReLU"])),
        }
        for _ in range(points)
    ]


@pytest.fixture
def small_forest(monkeypatch):
    for name, value in (("_TREES", 32), ("_DRAWS", 20), ("_TREES_OF_A_DRAW", 8)):
        monkeypatch.setattr(forest, name, value)


def test_a_random_search_is_analysed_by_a_forest(small_forest):
    params = drawn(40)

    def mean(one):
        return 0.7 + 0.1 * one["width"] / 128 + 0.05 * (one["act"] == "ReLU")

    results = sweep_of(params, made_up(params, mean, 3, 6), 3)
    effects = results.effects()
    assert effects.method == "forest"
    assert "40 points" in effects.basis
    found = by_name(effects)
    assert found["width"].share > 0.2
    assert found["junk"].share < 0.05
    assert found["act"].share > 0.1
    assert sum(one.share for one in effects.effects) == pytest.approx(1)
    assert all(math.isnan(one.p_value) for one in effects.effects)
    assert "    act=ReLU: 0." in str(effects)
    assert "★" not in str(effects), "no test, no star"
    loss = results.effects("loss_val")
    assert [one.name for one in loss.levels if one.best and one.effect == "act"] == ["act=ReLU"]
    assert str(results.effects()) == str(effects)


def test_a_forest_sees_nothing_in_noise(small_forest):
    params = drawn(40)
    effects = sweep_of(params, made_up(params, lambda _: 0.8, 3, 6), 3).effects()
    for name in ("width", "junk", "act"):
        assert by_name(effects)[name].share < 0.05


def test_a_tree_is_taken_apart_as_by_brute_force():
    from sklearn.tree import DecisionTreeRegressor

    random = np.random.default_rng(2)
    levels = {"a": random.integers(0, 4, 60), "b": random.integers(0, 3, 60)}
    levels = {name: np.unique(one, return_inverse=True)[1] for name, one in levels.items()}
    columns = (("a", np.arange(4.0)), *(("b", one) for one in np.eye(3)))
    space = forest._Space(levels, columns)
    y = levels["a"] * (levels["b"] == 1) + 0.3 * levels["b"] + random.normal(0, 0.1, 60)
    tree = DecisionTreeRegressor(max_depth=4, random_state=0).fit(space.matrix(), y)
    weights = space.weights(np.ones(60))
    fractions, curves = forest._tree(tree.tree_, space, weights)
    # Every combination of values, as often as both were drawn.
    surface = np.array(
        [[tree.predict([[a, b == 0, b == 1, b == 2]])[0] for b in range(3)] for a in range(4)]
    )
    both = np.outer(weights["a"], weights["b"])
    mean = (both * surface).sum()
    of_a, of_b = surface @ weights["b"], weights["a"] @ surface
    assert curves["a"] == pytest.approx(of_a)
    total = (both * (surface - mean) ** 2).sum()
    share_a = weights["a"] @ (of_a - mean) ** 2 / total
    share_b = weights["b"] @ (of_b - mean) ** 2 / total
    assert fractions == pytest.approx([share_a, share_b, 1 - share_a - share_b])


def test_few_points_make_no_forest():
    effects = sweep_of(drawn(9), made_up(drawn(9), lambda _: 0.8, 1, 3)).effects()
    assert "a random search needs 10 points, not 9" in str(effects)


def test_a_missing_library_is_named(monkeypatch):
    for name in ("sklearn", "sklearn.ensemble"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"pip install 'sweeper\[analysis\]'"):
        sweep_of(drawn(12), made_up(drawn(12), lambda _: 0.8, 1, 3)).effects()


# -- made-up sweeps -------------------------------------------------------------------------------

SCENARIOS = {
    "tuned": (GRID, 3, 6, 0.01),
    "a trial a tuning": (GRID, 3, 3, 0.01),
    "tuned, small": ([one for one in GRID if one["depth"] == 1], 3, 6, 0.02),
    "a point missing": (GRID[1:], 3, 6, 0.01),
    "tuned once": (GRID, 1, 6, 0.01),
    "one trial": (GRID, 1, 1, 0.01),
    "as tuned": ([one for one in GRID if one["depth"] == 1], 1, 6, 0.0),
}


def false_claims(grid, tunings, trials, between, sweeps):
    """How often terms without effect are said to matter, where hidden alone has one.

    Any of them, and the parameter that is named most often.
    """
    from sweeper.stats.compare import holm_p_values

    names = [name for name in grid[0] if len({one[name] for one in grid}) > 1]
    levels = {
        name: np.unique([one[name] for one in grid], return_inverse=True)[1] for name in names
    }
    which = [np.arange(trials) % tunings] * len(grid)
    wrong = []
    for seed in range(sweeps):
        values = made_up(
            grid, lambda one: 0.8 + 0.002 * one["hidden"], tunings, trials, seed, between
        )
        analysis = anova.analyse(estimate_means(values, which), levels)
        told = holm_p_values([one.p_value for one in analysis.tests])
        wrong.append(
            {
                term
                for term, p in zip([*analysis.terms, ()], told, strict=True)
                if p <= 0.05 and term != ("hidden",)
            }
        )
    alone = max(sum((name,) in said for said in wrong) for name in names)
    return sum(map(bool, wrong)) / sweeps, alone / sweeps


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_has_no_effect_is_seldom_said_to_matter(scenario, monkeypatch):
    monkeypatch.setattr(anova, "_DRAWS", 2)
    of_any, of_one = false_claims(*SCENARIOS[scenario], sweeps=200)
    assert of_any <= 0.085  # 5 % and two standard errors of 200 sweeps
    assert of_one <= 0.06
