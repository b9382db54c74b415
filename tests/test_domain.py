"""Domains against brute force: sizes, order, pairs, shares, conditions, constraints; and places."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sweeper.errors import ParamError, UsageError
from sweeper.search.domain import (
    Alias,
    Choice,
    Constant,
    Domain,
    IntUniform,
    LogIntUniform,
    LogUniform,
    Normal,
    Option,
    Uniform,
)
from sweeper.search.domain.sampling import sobol_places

# -- the algebra, as lists of dicts ---------------------------------------------------------------

values = st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True)


@st.composite
def with_list(draw, names="abcd", depth=2):
    """A finite domain, and the list of its points by brute force."""
    kind = draw(st.sampled_from(["axes", "*", "+", "@", "when", "where"])) if depth else "axes"
    if kind == "axes" or len(names) < 2:
        some = draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
        axes = {name: draw(values) for name in some}
        rows = itertools.product(*axes.values())
        return Domain(axes), [dict(zip(axes, row, strict=True)) for row in rows]
    half = len(names) // 2
    one, ones = draw(with_list(names[:half], depth - 1))
    if kind == "where":
        return one.where(lambda p: sum(p.values()) % 2), [p for p in ones if sum(p.values()) % 2]
    if kind == "+":
        other, others = draw(with_list(names, depth - 1))
        return one + other, ones + others
    other, others = draw(with_list(names[half:], depth - 1))
    if kind == "*":
        return one * other, [p | q for p in ones for q in others]
    if kind == "when" and ones and one.names and one.names[0] in ones[0]:
        name, extra = one.names[0], f"x{names[0]}{depth}"
        value, more = ones[0][name], draw(values)
        met = [p.get(name) == value for p in ones]
        listed = [
            q
            for p, is_met in zip(ones, met, strict=True)
            for q in ([p | {extra: x} for x in more] if is_met else [p])
        ]
        return one.when(**{name: value}, **{extra: more}), listed
    if kind == "@" and ones:
        axis = {names[half]: list(range(len(ones)))}
        return one @ Domain(axis), [p | {names[half]: place} for place, p in enumerate(ones)]
    return one, ones


@settings(max_examples=200)
@given(with_list())
def test_a_domain_is_the_list_that_brute_force_makes(case):
    domain, listed = case
    assert list(domain) == listed
    assert len(domain) == len(listed)
    assert bool(domain) is bool(listed)
    assert domain.is_finite
    assert all(point in domain for point in listed)
    assert all(set(point) <= set(domain.names) for point in listed)
    assert {"no such": 1} not in domain
    for point in listed[:3]:
        for name in point:
            other = point | {name: 77}
            assert (other in domain) is (other in listed)


@settings(max_examples=60)
@given(with_list(), st.integers(0, 2**32), st.booleans())
def test_a_sample_takes_points_of_the_domain_none_twice(case, seed, sobol):
    domain, listed = case
    distinct = {tuple(sorted(point.items())) for point in listed}
    count = min(len(distinct), 5)
    drawn = domain.sample(count, seed, sobol=sobol)
    assert all(point in listed for point in drawn)
    assert len({tuple(sorted(point.items())) for point in drawn}) == count
    assert domain.sample(count, seed, sobol=sobol) == drawn
    assert domain.sample(count // 2, seed, sobol=sobol) == drawn[: count // 2]


@settings(max_examples=30)
@given(with_list(), with_list("efg"), with_list("hij"))
def test_products_and_sums_are_associative(one, other, third):
    (a, _), (b, _), (c, _) = one, other, third
    assert (a * b) * c == a * (b * c)
    assert (a + b) + c == a + (b + c)


def test_a_small_domain_is_used_up():
    domain = Domain(a=[1, 2, 3], b=["x", "y"])
    assert sorted(map(str, domain.sample(6))) == sorted(map(str, domain))
    with pytest.raises(UsageError, match=r"points=7: only 6 were found.*widen the domain"):
        domain.sample(7)
    with pytest.raises(UsageError, match="only 0 were found"):
        domain.where(lambda _: False).sample(1)
    assert domain.where(lambda _: False).sample(0) == []


def test_a_mapping_names_and_options_are_the_same():
    domain = Domain({"width": [16, 64], "act": ("ReLU", "Tanh")})
    assert domain == Domain(width=[16, 64], act=["ReLU", "Tanh"])
    assert domain == Option("width", [16, 64]) * Option("act", ["ReLU", "Tanh"])
    assert domain != Option("act", ["ReLU", "Tanh"]) * Option("width", [16, 64])
    assert Domain({"a": [1]}, b=[2]) == Domain(a=[1], b=[2])
    assert list(Domain()) == [{}]
    assert {} in Domain()


def test_alike_values_of_different_types_differ():
    assert Domain(a=[1]) != Domain(a=[1.0]) != Domain(a=[True])
    assert Domain(a=Choice([1])) != Domain(a=Choice([True]))
    assert {"a": 1.0} not in Domain(a=[1])
    assert Domain(a=[[1, 2], {"k": (1,)}]) == Domain(a=[[1, 2], {"k": (1,)}])
    assert len({Domain(a=[1]), Domain(a=[1]), Domain(a=[2])}) == 2


def test_sets_and_ranges_are_axes():
    assert list(Domain(a=range(3))) == [{"a": 0}, {"a": 1}, {"a": 2}]
    assert list(Domain(a={"b", "a"})) == [{"a": "a"}, {"a": "b"}]
    assert list(Domain(a=np.arange(2))) == [{"a": 0}, {"a": 1}]


# -- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sobol", [False, True])
def test_parts_are_drawn_by_their_weights(sobol):
    domain = (
        0.2 * Domain(a=Uniform(0, 1))
        + 0.3 * Domain(b=Uniform(0, 1))
        + 0.5 * Domain(c=Uniform(0, 1))
    )
    names = Counter(name for point in domain.sample(2000, sobol=sobol) for name in point)
    observed = [names[name] for name in "abc"]
    assert stats.chisquare(observed, [400, 600, 1000]).pvalue > 0.001


def test_a_finite_mixture_keeps_its_parts_order_and_shares():
    domain = 3 * Domain(a=range(3000)) + 1 * Domain(b=range(3000))
    points = list(domain.points(seed=1))
    assert len(domain) == len(points) == 6000
    assert [p["a"] for p in points if "a" in p] == list(range(3000))
    early = Counter(name for point in points[:2000] for name in point)
    assert stats.chisquare([early["a"], early["b"]], [1500, 500]).pvalue > 0.001
    assert points == list(domain.points(seed=1)) != list(domain.points(seed=2))


def test_a_part_that_is_used_up_leaves_its_share_to_the_others():
    domain = (
        0.5 * Domain(a=[1, 2]) + 0.25 * Domain(b=Uniform(0, 1)) + 0.25 * Domain(c=Uniform(0, 1))
    )
    names = Counter(name for point in domain.sample(402) for name in point)
    assert names["a"] == 2
    assert stats.chisquare([names["b"], names["c"]], [200, 200]).pvalue > 0.001


def test_weights_are_linear():
    a, b, c = Domain(a=[1]), Domain(b=[1]), Domain(c=[1, 2])
    assert 2 * (0.1 * a + 0.2 * b) + 0.3 * c == 0.2 * a + 0.4 * b + 0.3 * c
    assert 0.5 * a * c + 0.5 * b == 0.5 * (a * c) + 0.5 * b
    assert list(c * (0.5 * a)) == list(c * a)
    product = (0.5 * a + 0.5 * b) * c
    assert len(product) == 4
    assert all(point in product for point in product.sample(4))


def test_choices_and_mixtures_inside_of_products_keep_their_weights():
    domain = (0.25 * Domain(a=[1]) + 0.75 * Domain(a=[2])) * Domain(
        b=Choice(["x", "y"], weights=[1, 3]), c=Uniform(0, 1)
    )
    drawn = domain.sample(1600)
    seen = Counter((point["a"], point["b"]) for point in drawn)
    pairs = [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    assert stats.chisquare([seen[pair] for pair in pairs], [100, 300, 300, 900]).pvalue > 0.001


def test_each_point_of_a_sum_in_a_product_is_equally_likely():
    domain = (Domain(a=range(3)) + Domain(b=[1])) * Domain(c=Uniform(0, 1))
    seen = Counter(str({k: v for k, v in p.items() if k != "c"}) for p in domain.sample(800))
    assert stats.chisquare(list(seen.values())).pvalue > 0.001
    assert len(seen) == 4


# -- infinite domains -----------------------------------------------------------------------------


def test_a_domain_with_a_distribution_has_no_end():
    domain = Domain(a=[1, 2], b=Uniform(0, 1))
    assert not domain.is_finite
    assert bool(domain)
    with pytest.raises(TypeError, match=r"has no number of points: .*RandomSearch"):
        len(domain)
    with pytest.raises(UsageError, match=r"has no end: .*RandomSearch"):
        list(domain)
    assert {"a": 1, "b": 0.5} in domain
    assert {"a": 3, "b": 0.5} not in domain
    assert {"a": 1, "b": 2.0} not in domain
    assert {"a": 1} not in domain


def test_a_finite_part_may_go_before_an_infinite_one():
    first, then = Domain(a=[1, 2]), Domain(a=IntUniform(10, 10**6))
    points = (first + then).sample(50)
    assert {point["a"] for point in points[:2]} == {1, 2}
    assert all(point["a"] >= 10 for point in points[2:])
    with pytest.raises(UsageError, match=r"the first has no end.*0\.5 \* a \+ 0\.5 \* b"):
        then + first
    with pytest.raises(UsageError, match=r"has no end, so nothing says how often.*a weight"):
        ((first + then) * Domain(b=[1])).sample(1)


def test_conditions_hold_in_samples():
    domain = Domain(optimizer=["sgd", "adam", "none"], rate=LogUniform(1e-3, 1)).when(
        optimizer={"sgd", "adam"}, momentum=Uniform(0, 0.99)
    )
    for point in domain.sample(100):
        assert ("momentum" in point) is (point["optimizer"] != "none")
        assert point in domain
        assert (point | {"momentum": 0.5} in domain) is (point["optimizer"] != "none")


def test_constraints_hold_in_samples():
    domain = Domain(width=LogIntUniform(8, 256), depth=IntUniform(1, 8)).where(
        lambda p: p["width"] * p["depth"] < 128
    )
    points = domain.sample(200)
    assert all(point["width"] * point["depth"] < 128 for point in points)
    assert {"width": 64, "depth": 1} in domain
    assert {"width": 64, "depth": 2} not in domain


def test_a_predicate_gets_values_and_what_it_raises_is_said():
    seen = []
    list(Domain(a=[Alias(3, "three")]).where(lambda p: seen.append(p) or True))
    assert seen[0] == {"a": 3}
    with pytest.raises(UsageError, match=r"where\(\) raised KeyError at \{'a': 1\}: 'b'"):
        list(Domain(a=[1]).where(lambda p: p["b"]))


# -- places of the unit cube ----------------------------------------------------------------------

DISTRIBUTIONS = {
    "uniform": (Uniform(-1.0, 3.0), stats.uniform(-1, 4)),
    "log": (LogUniform(1e-4, 10.0), stats.loguniform(1e-4, 10)),
    "normal": (Normal(2.0, 0.5), stats.norm(2, 0.5)),
    "integers": (IntUniform(-2, 7), stats.randint(-2, 8)),
}


@pytest.mark.parametrize(("ours", "theirs"), DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_quantiles_are_those_of_scipy(ours, theirs):
    for u in np.linspace(0.00113, 0.9991, 211):
        assert ours.quantile(u) == pytest.approx(theirs.ppf(u))
        assert Domain(a=theirs).at([u])["a"] == theirs.ppf(u)


@given(
    st.one_of(
        st.builds(
            Uniform, st.floats(-1e6, 0, allow_nan=False), st.floats(1e-3, 1e6, allow_nan=False)
        ),
        st.builds(LogUniform, st.floats(1e-300, 1e-3), st.floats(1e-2, 1e300)),
        st.builds(IntUniform, st.integers(-(2**52), 0), st.integers(1, 2**52)),
        st.builds(LogIntUniform, st.integers(1, 5), st.integers(6, 2**52)),
        st.builds(Normal, st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)),
        st.builds(Choice, st.lists(st.integers(), min_size=1, max_size=5)),
        st.builds(Constant, st.integers()),
    ),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=8),
)
def test_quantiles_rise_within_the_distribution(distribution, us):
    drawn = [distribution.quantile(u) for u in [0.0, *sorted(us), math.nextafter(1, 0)]]
    assert all(value in distribution for value in drawn)
    if not isinstance(distribution, Choice):
        assert drawn == sorted(drawn)


def test_integers_on_a_logarithmic_scale():
    drawn = Counter(LogIntUniform(1, 3).quantile((i + 0.5) / 7000) for i in range(7000))
    shares = [math.log((n + 0.5) / (n - 0.5)) / math.log(7) for n in (1, 2, 3)]
    assert [drawn[n] / 7000 for n in (1, 2, 3)] == pytest.approx(shares, abs=1e-3)


def test_at_maps_the_cube_to_points():
    domain = Domain(a=["x", "y"], b=Uniform(0.0, 10.0))
    assert domain.dimensions == 2
    assert domain.at([0.49, 0.5]) == {"a": "x", "b": 5.0}
    assert domain.at([0.5, 0.0]) == {"a": "y", "b": 0.0}
    assert domain.where(lambda p: p["a"] == "y").at([0.1, 0.1]) is None
    for bad in ([0.5], [0.5, 1.0], [-0.1, 0.5], [0.5, math.nan]):
        with pytest.raises(UsageError, match="give 2 numbers from 0 to less than 1"):
            domain.at(bad)


def test_quasi_random_points_fill_the_cube_more_evenly():
    from scipy.stats import qmc

    domain = Domain(a=Uniform(0, 1), b=Uniform(0, 1), c=Uniform(0, 1))
    for seed in range(5):
        sobol, random = (
            qmc.discrepancy(
                np.array([list(p.values()) for p in domain.sample(64, seed, sobol=one)])
            )
            for one in (True, False)
        )
        assert sobol < random / 2
    assert domain.sample(5, 1, sobol=True) != domain.sample(5, 2, sobol=True)


def test_a_mixture_takes_one_place_a_point():
    domain = 0.5 * Domain(a=Uniform(0, 1)) + 0.5 * Domain(b=Uniform(0, 1), c=Uniform(0, 1))
    places = itertools.islice(sobol_places(domain.dimensions, 3), 20)
    assert domain.sample(20, 3, sobol=True) == [domain.at(place) for place in places]


def test_draws_never_drift():
    # A sweep that is run again after an update finds its points by these.
    domain = Domain(width=LogIntUniform(8, 256), rate=Uniform(0.0, 0.5), act=["Tanh", "ReLU"])
    assert domain.sample(2, 1) == GOLDEN
    assert domain.sample(2, 1, sobol=True) == GOLDEN_SOBOL


GOLDEN = [
    {"width": 46, "rate": 0.47523184816296765, "act": "Tanh"},
    {"width": 214, "rate": 0.15591572600524273, "act": "Tanh"},
]
GOLDEN_SOBOL = [
    {"width": 21, "rate": 0.08131765201687813, "act": "ReLU"},
    {"width": 212, "rate": 0.30244682217016816, "act": "Tanh"},
]


class Die:
    """A distribution of somebody else's, with `rvs` alone."""

    def rvs(self, random_state):
        return np.random.default_rng(random_state).integers(1, 6, endpoint=True)


def test_whatever_has_rvs_is_an_axis():
    domain = Domain(a=Die(), b=stats.norm(0, 1), c=stats.randint(0, 5))
    points = domain.sample(200, 3)
    assert points == domain.sample(200, 3)
    assert {point["a"] for point in points} == {1, 2, 3, 4, 5, 6}
    assert all(type(point["a"]) is int and type(point["c"]) is int for point in points)
    assert all(type(point["b"]) is float for point in points)
    assert "b=norm(0, 1)" in repr(domain)
    assert {"b": 0.5} in Domain(b=stats.norm(0, 1))
    assert {"c": 7} not in Domain(c=stats.randint(0, 5))
    with pytest.raises(UsageError, match="does not say which values it gives"):
        assert {"a": 1} in Domain(a=Die())


# -- what is written ------------------------------------------------------------------------------


def accept(point):
    return True


@pytest.mark.parametrize(
    "text",
    [
        "Domain()",
        "Domain(width=[16, 64], act=['ReLU', 'Tanh'])",
        "Domain({'a-b': [1], 'c': [Alias(2, 'two')]})",
        "Domain(a=[1]) + Domain(b=Uniform(0, 1))",
        "(Domain(a=[1]) + Domain(b=[2])) * Domain(c=[3])",
        "Domain(c=[3]) * (Domain(a=[1]) + Domain(b=[2])) * Domain(d=[4])",
        "0.3 * Domain(a=[1]) + 0.7 * Domain(b=LogIntUniform(1, 9))",
        "0.3 * (Domain(a=[1]) + Domain(b=[2])) + 0.7 * Domain(b=Normal(0, 1))",
        "Domain(a=[1, 2]) @ Domain(b=[3, 4])",
        "(Domain(a=[1, 2]) @ Domain(b=[3, 4])) * Domain(c=Choice([1, 2], weights=[1, 3]))",
        "Domain(a=['x', 'y']).when(a='x', b=Uniform(0, 1))",
        "Domain(a=['x', 'y', 'z']).when(a={'x', 'y'}, b=IntUniform(0, 1)).where(accept)",
        "(Domain(a=[1]) + Domain(b=[2])).where(accept)",
    ],
)
def test_a_domain_is_written_as_what_makes_it(text):
    domain = eval(text)
    again = eval(repr(domain))
    assert again == domain
    if "'x', 'y'}" not in text:  # a set has no order of its own
        assert repr(domain) == text


def test_long_lists_are_cut():
    assert repr(Domain(a=range(100))) == "Domain(a=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …, 99])"


# -- what is refused ------------------------------------------------------------------------------

A, B, C = Domain(a=[1, 2]), Domain(b=[1, 2, 3]), Domain(c=Uniform(0, 1))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Domain([1, 2]), r"Domain\(\[1, 2\]\): give a mapping"),
        (lambda: Domain({1: [2]}), "the name 1 is not a string"),
        (lambda: Domain({"a": [1]}, a=[2]), "a is given twice"),
        (lambda: Domain(a="Tanh"), r"a='Tanh' is not a list of values: .*a=\['Tanh'\]"),
        (lambda: Domain(a=[]), r"a=\[\] has no values"),
        (lambda: Domain(a=[1, Alias(1, "one")]), "more than once"),
        (lambda: Domain(a=[[Alias(1, "one")]]), "an alias names the whole value"),
        (lambda: Domain(a=[Uniform(0, 1)]), "is a Uniform"),
        (lambda: A * A, r"both have a; a point has one value"),
        (lambda: A @ A.when(a=1, b=[1]), "both have a"),
        (lambda: A @ B, r"the first has 2 points, the second 3 points: .*both must have as many"),
        (lambda: A @ C, "the second no end"),
        (lambda: C @ A, "the first has no end"),
        (lambda: 0.5 * A + B, "only one has a weight: give both one"),
        (lambda: 0 * A, "the weight of a domain is 0: it must be above 0"),
        (lambda: -1.5 * A, "must be above 0"),
        (lambda: math.nan * A, "must be a finite number"),
        (lambda: A.when(a=1), "lacks a new parameter.*the parameters of this domain are a"),
        (lambda: A.when(b=[1]), "lacks a condition"),
        (lambda: A.when(a=3, b=[1]), r"when\(a=3\): a is never 3"),
        (lambda: A.where(3), r"where\(3\): give a function"),
        (lambda: A.sample(-1), "points=-1"),
        (lambda: A.sample(1, seed=-1), "seed=-1"),
        (lambda: Uniform(1, 1), r"Uniform\(1, 1\): low must be below high"),
        (lambda: Uniform(0, math.inf), "high is inf: it must be a finite number"),
        (lambda: Uniform("0", 1), "low is '0': it must be a finite number"),
        (lambda: Uniform(-1e308, 1e308), "the width of a range must be finite"),
        (lambda: LogUniform(0, 1), "low must be above 0 on a logarithmic scale"),
        (lambda: IntUniform(0, 1.5), "high is 1.5: it must be a whole number"),
        (lambda: IntUniform(0, True), "high is True"),
        (lambda: IntUniform(0, 2**53), "at most 2\\*\\*52"),
        (lambda: LogIntUniform(0, 4), "low must be above 0"),
        (lambda: Normal(0, 0), r"Normal\(0, 0\): std must be above 0"),
        (lambda: Normal("a", 1), "mean is 'a'"),
        (lambda: Choice([]), "at least one"),
        (lambda: Choice("ab"), "give a list of values"),
        (lambda: Choice([1, 2], [1]), "there are 2 values and 1 weights"),
        (lambda: Choice([1, 2], [1, 0]), "a weight must be above 0"),
        (lambda: Choice([1, 2], [1, "x"]), "a weight is 'x'"),
        (lambda: Choice([math.nan]), "NaN"),
        (lambda: Alias(1, ""), "the name must be a text"),
    ],
)
def test_what_cannot_be_meant_is_said(make, said):
    with pytest.raises((UsageError, ParamError), match=said):
        make()


def test_other_types_are_left_to_python():
    for wrong in (lambda: A * 2, lambda: A + 1, lambda: A @ [1], lambda: True * A):
        with pytest.raises(TypeError):
            wrong()
    assert 3 not in A
    assert A != 3


def test_domains_need_no_scipy():
    code = (
        "import sys, sweeper.api.sweep, sweeper.cli\n"
        "from sweeper import Domain, Normal, LogUniform\n"
        "Domain(a=Normal(0, 1), b=LogUniform(1, 2)).sample(3)\n"
        "assert not any(name.split('.')[0] == 'scipy' for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_line_imports_domains_only_where_there_is_one():
    code = (
        "import sys, sweeper.api.sweep, sweeper.cli\n"
        "assert not any(name.startswith('sweeper.search.domain') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
