"""The results of a sweep: a sequence of points with the arrays of their trials.

A long file for one class: all that a script asks of results is a method of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sweeper.errors import UsageError
from sweeper.records import (
    CLASSIC,
    LABELS,
    Metric,
    Params,
    Parent,
    TunedSettings,
    Usage,
    generation_of,
)
from sweeper.results.artifacts import Artifacts, TrialRecords
from sweeper.results.points import (
    ALWAYS_TAKEN,
    METRICS,
    TEST_METRICS,
    TRIAL_COLUMNS,
    USAGE_COLUMNS,
    FailureReport,
    FloatArray,
    ProgramPoint,
    Tested,
    is_classic,
    judged_by,
    label_columns,
    params_columns,
    usage_columns,
)
from sweeper.settings import OPTIONS
from sweeper.stats import (
    By,
    Comparison,
    Effects,
    Interval,
    Sample,
    Setting,
    compare_points,
    estimate_means,
    find_effects,
    find_point,
    mean_interval,
)
from sweeper.stats.comparison import plural
from sweeper.summary import OnTest, PointSummary, Summary, printable, show_params, show_value

if TYPE_CHECKING:
    import pandas as pd


class SweepResult(Sequence[Any]):
    """The points of a sweep, in the order in which the selector asked for them.

    Each is a `PointResult`, or a `ProgramPoint` if a program was swept.
    """

    def __init__(
        self,
        points: Sequence[Any],
        trial_numbers: Sequence[NDArray[np.int64]],
        failures: Sequence[FailureReport] = (),
        notes: Sequence[str] = (),
        tunings: Sequence[NDArray[np.int64]] | None = None,
        flags: Sequence[str] | None = None,
        n_val: int | None = None,
        settings: Sequence[Sequence[TunedSettings]] | None = None,
        test: Sequence[Tested] | None = None,
        *,
        paired: bool = False,
        metrics: Sequence[Metric] = CLASSIC,
        declared: Mapping[str, Sequence[FloatArray]] | None = None,
        budgets: Sequence[int | None] | None = None,
        groups: Sequence[str] | None = None,
        compare_by: Sequence[str] = (),
        earlier: int = 0,
        asks: Sequence[NDArray[np.int64]] | None = None,
        lineages: Sequence[str] | None = None,
        parents: Sequence[Parent | None] | None = None,
        usage: Sequence[Sequence[Usage | None]] | None = None,
        records: Sequence[TrialRecords] | None = None,
    ) -> None:
        self._points = tuple(points)
        self.trial_numbers = tuple(trial_numbers)
        """For each point the numbers of the trials in its arrays, shape (trials,)."""
        self.failures = tuple(failures)
        """Failed replicas and points, with the reasons."""
        self.notes = tuple(notes)
        zeros = [np.zeros(len(numbers), dtype=np.int64) for numbers in trial_numbers]
        self.tunings = tuple(tunings or zeros)
        """For each point the tuning of each of its trials, shape (trials,)."""
        self.flags = ("",) * len(self._points) if flags is None else tuple(flags)
        """For each point why its tuning cannot be trusted; "" if it can."""
        self.of_program = not is_classic(metrics)
        """Whether a program was swept: its metrics are its own, and nothing is tuned."""
        settings = settings or [tuned_settings(point) for point in self._points]
        self.settings = tuple(map(tuple, settings))
        """For each point the settings of each of its tunings; its `PointResult` has the first's.
        Of a program: none."""
        self.n_val = n_val
        """Size of the validation set, or of a split's validation part; None: not known."""
        self.test = None if test is None else tuple(test)
        """For each point its trials on the test set; None: no test set."""
        self.paired = paired
        """Whether trials with the same number share their split of the data."""
        self.metrics = tuple(metrics)
        """The metrics: the classic four, and those that the problem declares; of a program, all
        that its trials have measured."""
        if self.of_program:
            names = [metric.name for metric in self.metrics]
            declared = {name: [point.metrics[name] for point in self._points] for name in names}
        self.declared = {} if declared is None else {k: tuple(v) for k, v in declared.items()}
        """By metric besides the classic four: for each point its values, shape (trials,)."""
        self.budgets = (None,) * len(self._points) if budgets is None else tuple(budgets)
        """For each point the budget of its trials; None: the workload's own length.  A point whose
        trials have several budgets or parents, or are of several groups, is here once for each of
        them."""
        self.groups = ("",) * len(self._points) if groups is None else tuple(groups)
        """For each point the group in which the selector asked for its trials; "" if in none."""
        self.lineages = ("",) * len(self._points) if lineages is None else tuple(lineages)
        """For each point what its trials began from: the number of their generation and a digest of
        all parents; "" if they began from nothing."""
        self.parents = (None,) * len(self._points) if parents is None else tuple(parents)
        """For each point the trial that its trials began from; None: from nothing, or from one that
        only an earlier run asked for."""
        self.compare_by = tuple(compare_by)
        """Names of the parameters that points are compared by; empty: by all (see `by`)."""
        self.earlier = earlier
        """How many points, the last ones, only earlier runs asked for."""
        self.asks = tuple(asks or zeros)
        """For each point the ask of each of its trials, from 0, shape (trials,); with `compare_by`
        only, else all 0."""
        usage = usage or [[None] * len(numbers) for numbers in trial_numbers]
        self.usage = tuple(map(tuple, usage))
        """For each point what each of its trials used; None where that was not recorded, as for
        problems."""
        self.records = () if records is None else tuple(records)
        """For each point what its folder has of its trials besides metrics; empty if these results
        were not read from a folder, or are of several points as one."""

    def __getitem__(self, place: int | slice) -> Any:
        return self._points[place]

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._points)

    def __repr__(self) -> str:
        trials = sum(len(numbers) for numbers in self.trial_numbers)
        return f"<SweepResult: {len(self)} points, {trials} trials, {len(self.failures)} failures>"

    def summary(self) -> Summary:
        """n, diverged, failed, mean, standard deviation and 95 % interval of each point."""
        failed = Counter(one.key for one in self.failures)
        names = self._shown()
        intervals = {name: self.intervals(name) for name in names}
        diverged = self._diverged()
        return Summary(
            tuple(
                PointSummary(
                    params=point.params,
                    n=len(self.trial_numbers[place]),
                    diverged=diverged[place],
                    failed=failed[self.key(place)],
                    intervals={name: found[place] for name, found in intervals.items()},
                    tunings=len(np.unique(self.tunings[place])),
                    flag=self.flags[place],
                    budget=self.budgets[place],
                    group=self.groups[place],
                    parent=str(self.labels(place)["parent"] or self.lineages[place]),
                    generation=generation_of(self.lineages[place]),
                )
                for place, point in enumerate(self)
            ),
            self.notes,
            self.compare() if self.judged and len(self.comparable()) > 1 else None,
            self.on_test(),
            tuple(name for name in names if self.of_program or name != "perf_train"),
        )

    @property
    def judged(self) -> Metric | None:
        """The metric that points are judged by where none is named; None: none has a direction."""
        return judged_by(self.metrics)

    def _shown(self) -> list[str]:
        """The metrics in the columns of tables, first the one that points are judged by."""
        shown = [one.name for one in self.metrics if one.shown]
        first = self.judged.name if self.judged else next(iter(shown), None)
        return sorted(shown, key=lambda name: name != first)

    def _diverged(self) -> list[int]:
        """How many of each point's trials have diverged."""
        names = ["loss_train", "loss_val"]
        if self.of_program:
            names = [self.judged.name] if self.judged else []
        losses = [self.values(name) for name in names]
        return [
            int(np.sum(~np.isfinite(sum(loss[place] for loss in losses)))) if losses else 0
            for place in range(len(self))
        ]

    def where(self, domain: Container[Params] | None = None, /, **values: Any) -> SweepResult:
        """Only the points with these values, as results.

        Args:
            domain: Anything that knows which parameters are in it, such as a `sweeper.Domain`,
                which leaves the parameters open that it does not have.
            values: By the names of columns in `rows`: parameters, by value or by alias; `budget`,
                `group`; where trials began from others also `generation`, `parent` and `lineage`.

        Raises:
            UsageError: no point has a column of this name.
            ParamError: a value is a class or function that no parameter could be.
        """
        from sweeper.results.selection import columns_of, has_value, is_in, only

        columns = [columns_of(self, place) for place in range(len(self))]
        known = dict.fromkeys(name for row in columns for name in row)
        for name, value in values.items():
            if name not in known:
                raise UsageError(f"{name}={value!r}: choose one of {', '.join(known)}")
        places = [
            place
            for place, row in enumerate(columns)
            if all(name in row and has_value(row[name], value) for name, value in values.items())
            and (domain is None or is_in(self[place].params, domain))
        ]
        return only(self, places)

    def by(self, *names: str) -> SweepResult:
        """The points that agree on these parameters as one point each.

        A point's trials are those of all points that it stands for, and each of these counts as one
        of its tunings: so intervals and verdicts are about the named parameters, with the others
        chosen anew by another search.

        Raises:
            UsageError: no name is given, or no point has a parameter of this name.
        """
        from sweeper.results.selection import check_names, places_by, pooled

        if not names:
            raise UsageError("by(): give the names of the parameters to compare by")
        check_names(self, names)
        return pooled(self, places_by(self, range(len(self)), names), names)

    def comparable(self) -> SweepResult:
        """The points that may be compared: trials of one group, one budget and one generation.

        They are those of the group `"final"`, or else of the last group; of its last generation,
        where trials began from others; and of the largest budget of these, of which a trial has
        ended: other groups, earlier generations and smaller budgets have chosen these.  Trials that
        began from different parents are no repeats of one another: each is a point of its own, and
        `by` pools them.  `where` gives any others.  With `compare_by`, points that agree on these
        parameters are one point.
        """
        from sweeper.results.selection import judged, only, pooled

        chosen = judged(self)
        if self.compare_by:
            return pooled(self, chosen, self.compare_by)
        return self if len(chosen) == len(self) else only(self, [place for (place,) in chosen])

    def best_places(self, metric: str | None = None) -> list[int]:
        """The places of the points that `best` stands for: one, or several with `compare_by`.

        Raises:
            UsageError: as `best`.
        """
        from sweeper.results.selection import judged

        comparable = self.comparable()
        best = comparable.best(metric)
        return judged(self)[next(at for at, point in enumerate(comparable) if point is best)]

    def key(self, place: int) -> tuple[str, int | None, str, str]:
        """What distinguishes a point's row: its parameters, budget, group and lineage."""
        own = (self.budgets[place], self.groups[place], self.lineages[place])
        return repr(self[place].params), *own

    def labels(self, place: int) -> dict[str, Any]:
        """The columns of a point's row beside its parameters, from `budget` to `lineage`.

        A parent is shown by its parameters and number.
        """
        own = (self.budgets[place], self.groups[place], self.lineages[place])
        return label_columns(*own, self.parents[place])

    def values(self, metric: str) -> list[FloatArray]:
        """Each point's values of a metric, in order of trial number; of shape (trials,).

        Raises:
            UsageError: there is no such metric.
        """
        return self._values(self._metric(metric))

    def _values(self, metric: Metric) -> list[FloatArray]:
        if metric.name in self.declared:
            return list(self.declared[metric.name])
        return [getattr(point, metric.name) for point in self]

    def _metric(self, name: str | None, *, ranked: bool = False) -> Metric:
        """The metric of this name; a declared metric's short name, as `f1`, means `f1_val`.

        None: the one that points are judged by.  `ranked` says that it needs a direction.
        """
        known = {metric.name: metric for metric in self.metrics}
        if name is None:
            if self.judged is None:
                one = next(iter(known), "acc")
                raise UsageError(
                    f"metric=None: no metric says whether large or small values are better: run "
                    f"the sweep again with metrics={{{one!r}: 'maximize'}} or 'minimize'"
                )
            return self.judged
        found = known.get(name) or known.get(f"{name}_val")
        if found is None:
            raise UsageError(f"metric={name!r}: choose one of {', '.join(known)}")
        if ranked and found.direction == "none":
            say = ""
            if self.of_program:
                say = (
                    f"; if they are, run the sweep again with metrics={{{found.name!r}: "
                    "'maximize'} or 'minimize': no trial runs anew"
                )
            raise UsageError(
                f"metric={found.name!r}: neither large nor small values are better{say}"
            )
        return found

    def intervals(self, metric: str | None = None) -> list[Interval]:
        """Each point's mean with its 95 % interval.

        Points that were tuned more than once are estimated together: they share an estimate of the
        variance between tunings.
        """
        found = self._metric(metric)
        return self._intervals(self._values(found), found.bounds)

    def on_test(self) -> OnTest | None:
        """The best point by `perf_val` on the test set; None: no test set."""
        if self.test is None or not any(len(point.perf_val) for point in self.comparable()):
            return None
        if self.comparable() is not self:
            return self.comparable().on_test()
        best = self.best()
        place = next(at for at, point in enumerate(self) if point is best)
        perf = self._intervals([one.perf_test for one in self.test], (0.0, 1.0))[place]
        loss = self._intervals([one.loss_test for one in self.test], None)[place]
        return OnTest(best.params, perf, loss)

    def _intervals(
        self, samples: Sequence[FloatArray], bounds: tuple[float, float] | None
    ) -> list[Interval]:
        """As `intervals`, of each point's values in `samples`.

        Values that are not finite (losses of trials that diverged) are left out.
        """
        finite = [np.isfinite(sample) for sample in samples]
        samples = [sample[kept] for sample, kept in zip(samples, finite, strict=True)]
        tunings = [which[kept] for which, kept in zip(self.tunings, finite, strict=True)]
        found = [mean_interval(sample, bounds=bounds) for sample in samples]
        places = [at for at, which in enumerate(tunings) if len(np.unique(which)) > 1]
        means = estimate_means([samples[at] for at in places], [tunings[at] for at in places])
        for at, mean in zip(places, means, strict=True):
            found[at] = mean.interval(bounds=bounds)
        return found

    def compare(
        self,
        *points: str,
        metric: str | None = None,
        baseline: str | None = None,
        by: By = "best",
        paired: bool | None = None,
        generalise: bool = False,
    ) -> Comparison:
        """Which points are better, which are not told apart, and how many trials would tell.

        `print` it.  With 95 % confidence all its statements are true together (docs/method.md,
        "The verdict", has the method and its sources).  A point whose tuning failed is named but
        not compared.

        Args:
            points: two points, to compare the first with the second: their names as tables print
                them, or any part that is unique (`compare("hidden=8", "hidden=32")`).
                None: all points.
            metric: name of a metric; None: `perf_val`, or a program's first with a direction.
            baseline: name of a point to compare all others with.
            by: "best": the best point with every other; "all": every pair.
            paired: compare trials with the same number, which share their split of the data; None:
                if they do (`self.paired`), but not with `by="all"` or `generalise`, nor where
                trials began from others, whose split they have.
            generalise: include the variance from choosing other validation samples (accuracies
                only; the bound is conservative).

        Raises:
            UsageError: an unknown metric or `by`, a name that matches no point or several,
                `generalise` for a metric that is not an accuracy.
        """
        from sweeper.results.selection import judged

        chosen = self.comparable()
        if chosen is not self:
            options: dict[str, Any] = {"by": by, "paired": paired, "generalise": generalise}
            found = chosen.compare(*points, metric=metric, baseline=baseline, **options)
            others = len(self) - sum(map(len, judged(self)))
            if not others:
                return found
            what = "groups, budgets or generations" if any(self.lineages) else "groups or budgets"
            caveat = f"not compared: {plural(others, 'row')} of other {what}"
            return replace(found, caveats=(*found.caveats, caveat))
        measured = self._metric(metric, ranked=True)
        if len(points) not in {0, 2} or (points and baseline is not None):
            raise UsageError(
                f"compare{points!r}: name two points, or a baseline and no points, or neither"
            )
        samples = self._samples(measured)
        names = [one.name for one in samples]
        place = None if baseline is None else find_point(names, baseline)
        if points:
            pair = [find_point(names, text) for text in points]
            if pair[0] == pair[1]:
                raise UsageError(f"compare{points!r}: both names match {names[pair[0]]!r}")
            samples, place = [samples[at] for at in pair], 1
        if paired is None:
            paired = self.paired and not generalise and (by != "all" or place is not None)
            paired = paired and not any(self.lineages)
        # If each trial has its own split, paired differences already vary with the samples.
        n_val = self.n_val if generalise or not self.paired else None
        return compare_points(
            samples,
            measured,
            baseline=place,
            by=by,
            paired=paired,
            n_val=n_val,
            generalise=generalise,
            is_tuned=not self.of_program,
        )

    def effects(self, metric: str | None = None) -> Effects:
        """Which parameters matter, and each one's share of the variance; `print` it.

        A grid is analysed by analysis of variance; a random search by functional analysis of
        variance over a forest, which needs scikit-learn (`pip install 'sweeper[analysis]'`).
        docs/method.md, "Effects", has the methods and their sources.  A point whose tuning failed
        is named but left out.

        Raises:
            UsageError: an unknown metric, or scikit-learn is needed and not installed.
        """
        if self.comparable() is not self:
            return self.comparable().effects(metric)
        measured = self._metric(metric)
        columns = [dict(params_columns(point.params)) for point in self]
        names = dict.fromkeys(name for column in columns for name in column)
        return find_effects(
            self._samples(measured),
            {
                printable(name): [_setting(column, name) for column in columns]
                for name in map(str, names)
            },
            measured,
            self.n_val,
            is_tuned=not self.of_program,
        )

    def _samples(self, metric: Metric) -> list[Sample]:
        values = self._values(metric)
        return [
            Sample(
                printable(show_params(point.params)),
                point.params,
                values[place],
                self.tunings[place],
                self.trial_numbers[place],
                self.flags[place],
            )
            for place, point in enumerate(self)
        ]

    def best(self, metric: str | None = None) -> Any:
        """The point with the best mean of `metric`: the highest, or the lowest for a loss.

        Means are over finite values.  A point with a trial that diverged comes after all points
        without one; a point whose tuning failed (`flags`) comes last.

        Raises:
            UsageError: there is no such metric, it has no direction, or no point has a trial.
        """
        if self.comparable() is not self:
            return self.comparable().best(metric)
        ranking = self.ranking(metric)
        if not any(map(len, self.trial_numbers)):
            raise UsageError("no point has a finished trial yet")
        return self[ranking[0]]

    def ranking(self, metric: str | None = None) -> list[int]:
        """The places of all points in the order in which `best` judges them, the best first.

        Points without trials come last.  Unlike `best` it has points of every budget and group.

        Raises:
            UsageError: there is no such metric, or it has no direction.
        """
        found = self._metric(metric, ranked=True)
        values = self._values(found)

        def merit(place: int) -> tuple[Any, ...]:
            if not len(values[place]):
                return (False,)
            return (True, not self.flags[place], _goodness(values[place], found))

        return sorted(range(len(self)), key=merit, reverse=True)

    def to_dataframe(
        self, *, history: bool = False, pivot: bool = True, usage: bool = False
    ) -> pd.DataFrame:
        """One row per trial: the parameters (a column each), trial number, settings, metrics.

        `budget` and `group` are columns if the selector asked with any; so are `generation`,
        `parent` and `lineage`.  Metrics that the problem declares follow the classic four; with a
        test set, `perf_test` and `loss_test` come last.  A parameter with the name of another
        column becomes `param_…`.  Needs pandas (`pip install 'sweeper[analysis]'`).

        Args:
            history: One row per iteration of a program, numbered from 1 in the column `iteration`,
                with what it reported; NaN where it did not report a metric.  Of a problem: one per
                point of its curves, at the training step in the column `step`.
            pivot: True: a column a metric.  False: a row a metric, with its name in the column
                `metric` and its number in `value`; those that are NaN are left out.
            usage: Whether to add what each trial of a program used, and where: the columns
                `started` and `ended` in seconds since the epoch, `cpu_seconds`, `peak_mib`, `host`
                and `cores`.

        Raises:
            UsageError: `history` with `usage`; or `history`, and the results were not read from a
                folder, or are of several points as one (`by`).
            FolderError: `history`, and the folder is gone or damaged.
        """
        if history and usage:
            raise UsageError(
                "history=True, usage=True: what a trial used is of the whole trial, not of an "
                "iteration: give one of them"
            )
        import pandas as pd

        from sweeper.results.history import history_rows, unpivoted

        rows = history_rows(self) if history else self.rows(usage=usage)
        if pivot:
            return pd.DataFrame(rows)
        names = [*([] if self.of_program else METRICS), *self.declared]
        names += [] if self.test is None else TEST_METRICS
        return pd.DataFrame(unpivoted(rows, names))

    def artifacts(self) -> dict[tuple[int, int], Artifacts]:
        """The arrays that trials of a program returned beside their metrics.

        By the place of the point in these results and the trial's number; each is a mapping from
        names to arrays, which are read when they are asked for.

        Raises:
            UsageError: as `to_dataframe`.
            FolderError: the folder is gone or damaged.
        """
        from sweeper.results.history import find_artifacts

        return find_artifacts(self)

    @property
    def tuned_options(self) -> tuple[str, ...]:
        """The options of the optimizer that were tuned: `weight_decay`, `momentum`, or none."""
        found = [one for some in self.settings for one in some]
        return tuple(n for n in OPTIONS if any(getattr(one, n) is not None for one in found))

    def _trial_columns(self) -> Sequence[str]:
        """The columns of a trial's number, its settings and its metrics."""
        if self.of_program:
            return TRIAL_COLUMNS[:1]
        place = TRIAL_COLUMNS.index("batch_size") + 1
        return [*TRIAL_COLUMNS[:place], *self.tuned_options, *TRIAL_COLUMNS[place:]]

    def rows(self, *, usage: bool = False) -> list[dict[str, Any]]:
        """One row per trial, as in `to_dataframe`; failed trials have none."""
        rows = []
        labels = [self.labels(place) for place in range(len(self))]
        used = [name for name in LABELS if any(row[name] for row in labels)]
        columns = [*self._trial_columns(), *self.declared]
        columns += [] if self.test is None else TEST_METRICS
        taken = [*columns, *ALWAYS_TAKEN, *used, *(USAGE_COLUMNS if usage else ())]
        for place, point in enumerate(self):
            named = dict(params_columns(point.params, taken))
            named |= {name: labels[place][name] for name in used}
            measured = [] if self.of_program else [getattr(point, metric) for metric in METRICS]
            measured += [values[place] for values in self.declared.values()]
            measured += [] if self.test is None else self.test[place]
            pairs = zip(self.trial_numbers[place], self.tunings[place], strict=True)
            for trial, (number, tuning) in enumerate(pairs):
                told: tuple[Any, ...] = (int(number),)
                if not self.of_program:
                    found = self.settings[place][int(tuning)]
                    told += (int(tuning), found.lr_min, found.lr_max, found.batch_size)
                    told += tuple(_number(getattr(found, name)) for name in self.tuned_options)
                metrics = [float(values[trial]) for values in measured]
                spent = usage_columns(self.usage[place][trial]) if usage else {}
                rows.append(
                    {**named, **spent, **dict(zip(columns, [*told, *metrics], strict=True))}
                )
        return rows


def _number(value: float | None) -> float:
    """The value of an option; NaN for a point of which it was not tuned."""
    return math.nan if value is None else value


def tuned_settings(point: Any) -> tuple[TunedSettings, ...]:
    """The settings with which a point's trials were trained; none for a program."""
    if isinstance(point, ProgramPoint):
        return ()
    return (TunedSettings(point.lr_min, point.lr_max, point.batch_size),)


def _setting(column: Mapping[str, Any], name: str) -> Setting:
    """A parameter's value in a point, as `find_effects` takes it."""
    if name not in column:
        return Setting("", "-", None)
    value = column[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Setting(
        f"{value!r}",
        printable(show_value(value)),
        float(value) if number and math.isfinite(value) else None,
    )


def _goodness(values: FloatArray, metric: Metric) -> tuple[bool, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return False, -math.inf
    mean = float(finite.mean())
    return len(finite) == len(values), -mean if metric.direction == "minimize" else mean
