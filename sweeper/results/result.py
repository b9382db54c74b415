"""The results of a sweep: a sequence of points with the arrays of their trials.

A façade: all that a script asks of results is a method of it, computed in the files beside it.  The
file is long because it explains each.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sweeper.errors import UsageError
from sweeper.records import CLASSIC, Metric, Params, Parent, TunedSettings, Usage
from sweeper.results.artifacts import Artifacts, TrialRecords
from sweeper.results.estimates import estimate_on_test, intervals_of, summarize
from sweeper.results.metrics import find_metric, is_classic, judged_by
from sweeper.results.points import FailureReport, FloatArray, IntArray, PointTrials, Tested
from sweeper.results.table import frame_of, label_columns, rows_of
from sweeper.results.verdicts import compare_results, effects_of, rank
from sweeper.settings import OPTIONS
from sweeper.stats.comparison import By, Comparison
from sweeper.stats.intervals import Interval
from sweeper.summary import OnTest, Summary

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.stats.effects.table import Effects


class SweepResult(Sequence[Any]):
    """The points of a sweep, in the order in which the selector asked for them.

    Each is a `PointResult`, or a `ProgramPoint` if a program was swept.
    """

    def __init__(
        self,
        point_trials: Sequence[PointTrials],
        failures: Sequence[FailureReport] = (),
        notes: Sequence[str] = (),
        *,
        n_val: int | None = None,
        paired: bool = False,
        metrics: Sequence[Metric] = CLASSIC,
        compare_by: Sequence[str] = (),
        earlier: int = 0,
    ) -> None:
        self.point_trials = tuple(point_trials)
        """For each point all that these results hold of its trials."""
        self._points = tuple([one.point for one in self.point_trials])
        self._columns: dict[str, tuple[Any, ...]] = {}
        """By field of `PointTrials`: its values, kept, since loops over places ask once a place."""
        self.failures = tuple(failures)
        """Failed replicas and points, with the reasons."""
        self.notes = tuple(notes)
        self.n_val = n_val
        """Size of the validation set, or of a split's validation part; None: not known."""
        self.paired = paired
        """Whether trials with the same number share their split of the data."""
        self.metrics = tuple(metrics)
        """The metrics: the classic four, and those that the problem declares; of a program, all
        that its trials have measured."""
        self.of_program = not is_classic(metrics)
        """Whether a program was swept: its metrics are its own, and nothing is tuned."""
        own = self.metrics if self.of_program else self.metrics[len(CLASSIC) :]
        self._declared = {
            metric.name: tuple([one.declared[metric.name] for one in self.point_trials])
            for metric in own
        }
        self.compare_by = tuple(compare_by)
        """Names of the parameters that points are compared by; empty: by all (see `by`)."""
        self.earlier = earlier
        """How many points, the last ones, only earlier runs asked for."""

    def __getitem__(self, place: int | slice) -> Any:
        return self._points[place]

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._points)

    def __repr__(self) -> str:
        trials = sum(len(numbers) for numbers in self.trial_numbers)
        return f"<SweepResult: {len(self)} points, {trials} trials, {len(self.failures)} failures>"

    # -- for each point ---------------------------------------------------------------------------

    def _column(self, name: str) -> tuple[Any, ...]:
        if name not in self._columns:
            self._columns[name] = tuple([getattr(one, name) for one in self.point_trials])
        return self._columns[name]

    @property
    def trial_numbers(self) -> tuple[IntArray, ...]:
        """For each point the numbers of the trials in its arrays, shape (trials,)."""
        return self._column("trial_numbers")

    @property
    def tunings(self) -> tuple[IntArray, ...]:
        """For each point the tuning of each of its trials, shape (trials,)."""
        return self._column("tunings")

    @property
    def flags(self) -> tuple[str, ...]:
        """For each point why its tuning cannot be trusted; "" if it can."""
        return self._column("flag")

    @property
    def settings(self) -> tuple[tuple[TunedSettings, ...], ...]:
        """For each point the settings of each of its tunings; of a program none."""
        return self._column("settings")

    @property
    def tuned_options(self) -> tuple[str, ...]:
        """The options of the optimizer that were tuned: `weight_decay`, `momentum`, or none."""
        found = [one for some in self.settings for one in some]
        return tuple(n for n in OPTIONS if any(getattr(one, n) is not None for one in found))

    @property
    def test(self) -> tuple[Tested, ...] | None:
        """For each point its trials on the test set; None: no test set, or no point."""
        found = self._column("test")
        return found if found and found[0] is not None else None

    @property
    def declared(self) -> dict[str, tuple[FloatArray, ...]]:
        """By metric besides the classic four: for each point its values, shape (trials,)."""
        return self._declared

    @property
    def budgets(self) -> tuple[int | None, ...]:
        """For each point the budget of its trials; None: the workload's own length.

        A point whose trials have several budgets or parents, or are of several groups, is here once
        for each of them.
        """
        return self._column("budget")

    @property
    def groups(self) -> tuple[str, ...]:
        """For each point the group in which the selector asked for its trials; "" if in none."""
        return self._column("group")

    @property
    def lineages(self) -> tuple[str, ...]:
        """For each point what its trials began from, "" if from nothing.

        It has the number of their generation and a digest of all parents.
        """
        return self._column("lineage")

    @property
    def parents(self) -> tuple[Parent | None, ...]:
        """For each point the trial that its trials began from.

        None: from nothing, or from one that only an earlier run asked for.
        """
        return self._column("parent")

    @property
    def asks(self) -> tuple[IntArray, ...]:
        """For each point the ask of each of its trials, from 0; all 0 without `compare_by`."""
        return self._column("asks")

    @property
    def usage(self) -> tuple[tuple[Usage | None, ...], ...]:
        """For each point what each of its trials used; None: not recorded, as for problems."""
        return self._column("usage")

    @property
    def records(self) -> tuple[TrialRecords, ...]:
        """For each point what its folder has of its trials besides metrics.

        Empty if these results were not read from a folder, or are of several points as one.
        """
        found = self._column("records")
        return found if found and found[0] is not None else ()

    def key(self, place: int) -> tuple[str, int | None, str, str]:
        """What distinguishes a point's row: its parameters, budget, group and lineage."""
        return self.point_trials[place].key

    def labels(self, place: int) -> dict[str, Any]:
        """The columns of a point's row beside its parameters, from `budget` to `lineage`.

        A parent is shown by its parameters and number.
        """
        return label_columns(self.point_trials[place])

    def values(self, metric: str) -> list[FloatArray]:
        """Each point's values of a metric, in order of trial number; of shape (trials,).

        Raises:
            UsageError: there is no such metric.
        """
        found = find_metric(self.metrics, metric)
        return [one.values(found.name) for one in self.point_trials]

    # -- parts ------------------------------------------------------------------------------------

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
        from sweeper.results.selection import only, places_where

        return only(self, places_where(self, domain, values))

    def by(self, *names: str) -> SweepResult:
        """The points that agree on these parameters as one point each.

        A point's trials are those of all points that it stands for, and each of these counts as one
        of its tunings: so intervals and verdicts are about the named parameters, with the others
        chosen anew by another search.

        Raises:
            UsageError: no name is given, or no point has a parameter of this name.
        """
        from sweeper.results.selection import check_names, places_by, pooled

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

    # -- what can be said -------------------------------------------------------------------------

    def summary(self) -> Summary:
        """n, diverged, failed, mean, standard deviation and 95 % interval of each point."""
        return summarize(self)

    @property
    def judged(self) -> Metric | None:
        """The metric that points are judged by where none is named; None: none has a direction."""
        return judged_by(self.metrics)

    def intervals(self, metric: str | None = None) -> list[Interval]:
        """Each point's mean with its 95 % interval.

        Points that were tuned more than once are estimated together: they share an estimate of the
        variance between tunings.
        """
        found = find_metric(self.metrics, metric)
        return intervals_of(self.values(found.name), self.tunings, found.bounds)

    def on_test(self) -> OnTest | None:
        """The best point by `perf_val` on the test set; None: no test set."""
        return estimate_on_test(self)

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
                only).  It is estimated by pairing the samples, from which of them the first trials
                got right; by a bound, which is conservative, where that was not stored: by earlier
                releases, for points that stand for several (`by`), or where each trial splits the
                data anew.  The first line of what is printed says which it was.

        Raises:
            UsageError: an unknown metric or `by`, a name that matches no point or several,
                `generalise` for a metric that is not an accuracy.
            FolderError: `generalise`, and the folder is gone or damaged.
        """
        options: dict[str, Any] = {"by": by, "paired": paired, "generalise": generalise}
        return compare_results(self, points, metric, baseline, **options)

    def effects(self, metric: str | None = None) -> Effects:
        """Which parameters matter, and each one's share of the variance; `print` it.

        A grid is analysed by analysis of variance; a random search by functional analysis of
        variance over a forest, which needs scikit-learn (`pip install 'sweeper[analysis]'`).
        docs/method.md, "Effects", has the methods and their sources.  A point whose tuning failed
        is named but left out.

        Raises:
            UsageError: an unknown metric, or scikit-learn is needed and not installed.
        """
        return effects_of(self, metric)

    def best(self, metric: str | None = None) -> Any:
        """The point with the best mean of `metric`: the highest, or the lowest for a loss.

        Means are over finite values.  A point with a trial that diverged comes after all points
        without one; a point whose tuning failed (`flags`) comes last.

        Raises:
            UsageError: there is no such metric, it has no direction, or no point has a trial.
        """
        chosen = self.comparable()
        if chosen is not self:
            return chosen.best(metric)
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
        return rank(self.point_trials, find_metric(self.metrics, metric, ranked=True))

    # -- as tables --------------------------------------------------------------------------------

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
        return frame_of(self, history=history, pivot=pivot, usage=usage)

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

    def rows(self, *, usage: bool = False) -> list[dict[str, Any]]:
        """One row per trial, as in `to_dataframe`; failed trials have none."""
        return rows_of(self, usage=usage)
