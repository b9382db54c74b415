"""How good the tuner is, against an oracle: small problems whose best settings are known.

    python benchmarks/tuning.py [--presets NAME ...] [--tune NAMES] [--sweeps K]
        [--problems NAME ...] [--held-out]
    python benchmarks/tuning.py --deep [--presets NAME]
    python benchmarks/tuning.py --null [--presets NAME]
    python benchmarks/tuning.py --lr-finder

The problems are those of `tuning_problems/`; a third of them is held out: nobody looks at these
while the tuner is developed.  What each can reach is in `tuning_oracle.json`, made by
`tuning_oracle.py`.  Sweeps are kept under `--out`, so that what was interrupted goes on; they are
of one state of the tuner, and another one needs another folder.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import sqlite3
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import sweeper
import tuning_oracle
import turns
from sweeper.records import METRICS
from sweeper.results import PointTrials

TRIALS, SWEEPS = 8, 3
NEAR = 0.1
"""Of the way from a constant prediction to a setting by hand: what ends within it is ruined."""
MODE_STAGES = ("check", "way")
"""Stages that are no tuning: whether the problem works, and how trials may be trained."""

NULL_PROBLEMS = (
    "digits_mlp",
    "moons_mlp",
    "spirals_mlp",
    "cancer_batchnorm",
    "friedman_scaled",
    "labels_mlp",
)
NULL_POINTS, NULL_TRIALS, NULL_TUNED, NULL_SWEEPS = 4, 12, 16, 400
BETTER_BY = 2.0
"""Standard deviations of a tuned trial."""

TAGGED = '''"""The same problem, with a parameter that has no effect."""

from tuning_problems import {name} as plain
from tuning_problems.{name} import *  # noqa: F403


def model(tag):
    """Whatever the tag is."""
    return plain.model()
'''


# -- what another release of the tuner may say otherwise ------------------------------------------


def settings(options: argparse.Namespace, preset: str) -> sweeper.HyperparameterSettings:
    """Of a preset, by another method and with more that is tuned where that is named."""
    found, method = sweeper.get_settings(preset), options.method
    if options.tune:
        found = dataclasses.replace(found, tune=tuple(options.tune.split(",")))
    if method is None:
        return found
    if "method" not in {field.name for field in dataclasses.fields(found)}:
        if method == "ranges":  # the only one there is
            return found
        raise SystemExit(f"--method {method}: this release knows `ranges` alone")
    return dataclasses.replace(found, method=method)  # type: ignore[call-arg]


def by_tuning(results: sweeper.SweepResult, place: int = 0) -> list[list[float]]:
    """The performances of a point's trials, those of each tuning by themselves."""
    which, perfs = results.tunings[place], results[place].perf_val
    return [perfs[which == one].tolist() for one in np.unique(which)]


def flag_of(results: sweeper.SweepResult, place: int) -> str:
    """Why the point's tuning is not to be trusted; empty where it is."""
    params = results[place].params
    failed = [one for one in results.failures if one.params == params and one.number is None]
    return failed[0].message if failed else results.flags[place]


def claims(results: sweeper.SweepResult) -> list[str]:
    """What is said of differences: the name of each point that is said to be worse."""
    return [row.second for row in results.compare().rows if row.verdict == "better"]


# -- one sweep ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Swept:
    """What a sweep of a problem came to; the point's trials, and what they cost."""

    results: sweeper.SweepResult
    tuning_seconds: float
    """Of probes, together."""
    other_seconds: float
    trial_seconds: float
    """Of a trial."""


def sweep(
    problem: str | Path,
    points: Sequence[Any],
    trials: int,
    folder: Path,
    hparams: sweeper.HyperparameterSettings,
    options: argparse.Namespace,
    seed: int = 0,
) -> Swept:
    """Sweep, or go on with the sweep that is there."""
    results = sweeper.sweep(
        problem,
        sweeper.FixedSweep.with_fixed_trials(points, trials),
        options.cores,
        hparams,
        folder,
        total_cores=options.total_cores,
        seed=seed,
        save_models="none",
        curve_samples=0,
        progress=False,
    )
    return Swept(results, *seconds_of(folder))


def cost(swept: Swept) -> float:
    """Of one tuning of a point, in trials' worth of processor time."""
    points = len(swept.results)
    tunings = sum(map(len, swept.results.settings)) / points
    return swept.tuning_seconds / points / tunings / swept.trial_seconds


def seconds_of(folder: Path) -> tuple[float, float, float]:
    """Of tuning in all, of the stages beside it in all, and of one trial on average."""
    query = "SELECT stage, ended - started FROM outcomes WHERE failure IS NULL"
    with contextlib.closing(sqlite3.connect(folder / "sweep.db")) as database:
        took = list(database.execute(query))
    trials = [seconds for stage, seconds in took if stage == "trial"]
    other = sum(seconds for stage, seconds in took if stage.partition(".")[0] in MODE_STAGES)
    tuning = sum(seconds for _, seconds in took) - other - sum(trials)
    return tuning, other, statistics.fmean(trials) if trials else math.nan


# -- a problem's row ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a trial: between tunings, and within one."""

    between: float
    within: float


def spread(groups: Sequence[Sequence[float]]) -> Spread:
    """Of groups of trials, each of one tuning, from the components of variance."""
    within = statistics.fmean(statistics.variance(group) for group in groups)
    if len(groups) < 2:
        return Spread(math.nan, math.sqrt(within))
    means = [statistics.fmean(group) for group in groups]
    each = statistics.harmonic_mean([len(group) for group in groups])
    return Spread(
        math.sqrt(max(0.0, statistics.variance(means) - within / each)), math.sqrt(within)
    )


def standard_error(groups: Sequence[Sequence[float]]) -> float:
    """Of the mean of tunings; of one tuning's trials where there is no other."""
    if len(groups) > 1:
        return statistics.stdev(map(statistics.fmean, groups)) / math.sqrt(len(groups))
    return statistics.stdev(groups[0]) / math.sqrt(len(groups[0]))


def way(known: Mapping[str, Any], perf: float) -> float:
    """How far from the constant prediction to the setting by hand; 1 is as good as by hand."""
    constant: float = known["constant"]
    return (perf - constant) / float(known["hand"]["perf_val"] - constant)


def row(known: Mapping[str, Any], name: str, sweeps: Sequence[Swept]) -> tuple[str, float, float]:
    """A line of the table, the regret, and the way of the worst sweep."""
    ended = [by_tuning(one.results) or [[known["constant"]] * 2] for one in sweeps]
    groups = [group for tunings in ended for group in tunings]
    perf = statistics.fmean(map(statistics.fmean, groups))
    regret = known["oracle_perf_val"] - perf
    error = math.hypot(known["oracle_error"], standard_error(groups))
    worst = min(way(known, statistics.fmean(map(statistics.fmean, some))) for some in ended)
    flags = sum(bool(flag_of(one.results, 0)) for one in sweeps)
    costs = [cost(one) for one in sweeps]
    seen = spread([group for group in groups if len(group) > 1])
    chosen = "; ".join(
        ", ".join([f"{found.lr_max:.2g}, {found.batch_size}", *options_of(found)])
        for one in sweeps
        for found in one.results.settings[0]
    )
    found = known["best"]
    cells = [
        name + " (flagged)" * bool(flags),
        f"{known['oracle_perf_val']:.4f}",
        f"{perf:.4f}",
        f"{regret:+.4f} ± {error:.4f}",
        f"{worst:.2f}",
        f"{statistics.fmean(costs):.1f}",
        f"{statistics.fmean(one.tuning_seconds for one in sweeps):.1f}",
        f"{statistics.fmean(one.trial_seconds for one in sweeps):.2f}",
        str(len(sweeps[0].results.settings[0])),
        "" if math.isnan(seen.between) else f"{seen.between:.4f}",
        f"{seen.within:.4f}",
        chosen,
        f"{found['low']:.2g} to {found['peak']:.2g}, {found['batch']}",
    ]
    return turns.row(*cells), regret, worst


def options_of(found: Any) -> list[str]:
    """The options of the optimizer that a tuning found."""
    values = {name: getattr(found, name) for name in ("weight_decay", "momentum")}
    return [f"{name} {value:.2g}" for name, value in values.items() if value is not None]


INTRODUCTION = """## Tuning, against an oracle

Small problems of `tuning_problems/`, those held out left aside unless it is said.  *Oracle*: mean
`perf_val` of the best of a grid of peak rate × shape × batch size with as many epochs, from seeds
that did not choose it (`tuning_oracle.py`).  *Tuned*: mean of {sweeps} sweep(s) of {trials} trials,
each with tunings of its own; *regret*: how much is missing, ± its standard error.  *Way*: where
the worst sweep ended between a constant prediction (0) and a usual setting by hand (1).  *Cost*:
seconds of one tuning's probes over those of one trial, which was trained in a pack where it can be;
what is not tuning (whether the problem works, how trials may be packed) is left out.
*Between*, *within*: standard deviation of trials between tunings and within one.
"""

TITLES = (
    "problem",
    "oracle",
    "tuned",
    "regret",
    "way, worst",
    "cost, trials",
    "tuning, s",
    "trial, s",
    "tunings",
    "between",
    "within",
    "chosen: peak rate, batch",
    "oracle's",
)


def report(options: argparse.Namespace, preset: str, wanted: Sequence[str]) -> None:
    """A preset's table."""
    oracle = tuning_oracle.load()
    method = f", method `{options.method}`" if options.method else ""
    method += f", tuning {options.tune}" if options.tune else ""
    print(f"### `{preset}`{method}\n\n{turns.head(*TITLES)}", flush=True)
    regrets: dict[str, float] = {}
    ways: list[float] = []
    costs: list[float] = []
    for name in wanted:
        if name not in oracle:
            print(f"{name} has no oracle yet: tuning_oracle.py {name}", file=sys.stderr)
            continue
        sweeps = list(swept(options, preset, name))
        line, regrets[name], worst = row(oracle[name], name, sweeps)
        ways.append(worst)
        costs += [cost(one) for one in sweeps]
        print(line, flush=True)
    if not regrets:
        return
    worst_name = max(regrets, key=regrets.__getitem__)
    print(
        f"\nRegret: median {statistics.median(regrets.values()):+.4f}, worst "
        f"{regrets[worst_name]:+.4f} ({worst_name}); {sum(one < NEAR for one in ways)} of "
        f"{len(ways)} problems have a sweep that ends within {NEAR:.0%} of the way from a constant "
        f"prediction to a setting by hand; cost of tuning: median "
        f"{statistics.median(costs):.1f} trials' worth.\n",
        flush=True,
    )


def swept(options: argparse.Namespace, preset: str, name: str) -> Iterator[Swept]:
    """A problem's sweeps, each from another seed."""
    for seed in range(options.sweeps):
        began = time.monotonic()
        folder = folder_of(options, preset) / name / str(seed)
        hparams = settings(options, preset)
        points, module = [()], f"tuning_problems.{name}"
        yield sweep(module, points, options.trials, folder, hparams, options, seed)
        took = time.monotonic() - began
        print(f"  {preset}, {name}, sweep {seed}: {took:.0f} s", file=sys.stderr, flush=True)


def folder_of(options: argparse.Namespace, preset: str) -> Path:
    """Where the sweeps of a preset are kept."""
    found: Path = options.out / "-".join(filter(None, [preset, options.method, options.tune]))
    return found


# -- the deep space -------------------------------------------------------------------------------


def report_deep(options: argparse.Namespace, preset: str) -> None:
    """How many of thirty deep nets are ruined by their tuning."""
    from tuning_problems import deep_digits

    known = tuning_oracle.load()["deep_digits"]
    points, folder = deep_digits.points, folder_of(options, preset) / "deep"
    hparams = settings(options, preset)
    module = "tuning_problems.deep_digits"
    found = sweep(module, points, options.trials, folder, hparams, options)
    hand = known.get("points", [known["hand"]] * len(points))
    titles = ("width", "depth", "dropout", "by hand", "tuned", "deviation", "way", "chosen", "flag")
    print(f"### `{preset}`: thirty points of the deep space\n\n{turns.head(*titles)}")
    ruined = unseen = flagged = 0
    for place, (point, own) in enumerate(zip(found.results, hand, strict=True)):
        perfs = list(map(float, point.perf_val)) or [known["constant"]] * 2
        reached = way({**known, "hand": own}, statistics.fmean(perfs))
        flag = flag_of(found.results, place)
        ruined += reached < NEAR
        unseen += reached < NEAR and not flag
        flagged += bool(flag)
        cells = [
            *dict(point.params).values(),
            f"{own['perf_val']:.3f}",
            f"{statistics.fmean(perfs):.3f}",
            f"{statistics.stdev(perfs):.3f}",
            f"{reached:.2f}",
            f"{point.lr_min:.2g} to {point.lr_max:.2g}, {point.batch_size}",
            flag,
        ]
        print(turns.row(*cells))
    spent = cost(found)
    print(
        f"\n{ruined} of {len(points)} points end within {NEAR:.0%} of the way from a constant "
        f"prediction to what a setting by hand reaches, {unseen} of them without a flag; {flagged} "
        f"are flagged.  Cost of a tuning: {spent:.1f} trials' worth a point.\n"
    )


# -- nothing differs ------------------------------------------------------------------------------


def report_null(options: argparse.Namespace, preset: str, wanted: Sequence[str]) -> None:
    """How often something is claimed of points that differ in their names alone."""
    titles = ("problem", "tuned points", "between", "within", "a false claim", "finds a better one")
    print(
        f"### `{preset}`: where nothing differs\n\n{NULL_SWEEPS} sweeps of {NULL_POINTS} points "
        f"with {NULL_TRIALS} trials each, drawn from the tunings of {options.tuned} points "
        f"that differ in nothing but a name.  The last column: one of them is better "
        f"by {BETTER_BY:g} standard deviations of a tuned trial, and is said to be better than "
        f"each other one.\n\n{turns.head(*titles)}",
        flush=True,
    )
    for name in wanted:
        home = folder_of(options, preset) / "null"
        home.mkdir(parents=True, exist_ok=True)
        module = home / f"tagged_{name}.py"
        module.write_text(TAGGED.format(name=name))
        points = [{"tag": tag} for tag in range(options.tuned)]
        hparams = settings(options, preset)
        found = sweep(module, points, NULL_TRIALS, home / name, hparams, options).results
        groups = [
            point.perf_val[those == which].tolist()
            for point, those in zip(found, found.tunings, strict=True)
            for which in np.unique(those)
        ]
        seen = spread([group for group in groups if len(group) > 1])
        deviation = math.hypot(seen.between, seen.within)
        draw = np.random.default_rng(0)
        false = right = 0
        for _ in range(NULL_SWEEPS):
            false += bool(claims(drawn(found, draw)))
            right += finds(drawn(found, draw, BETTER_BY * deviation))
        cells = [f"{seen.between:.4f}", f"{seen.within:.4f}"]
        cells += [f"{count / NULL_SWEEPS:.1%}" for count in (false, right)]
        print(turns.row(name, len(found), *cells), flush=True)
    print()


def drawn(
    results: sweeper.SweepResult, draw: np.random.Generator, worse: float = 0.0
) -> sweeper.SweepResult:
    """A sweep of points that are equal, of tunings drawn from all that were made, each once.

    All but the first point are made worse by so much.
    """
    pool = [(at, which) for at, those in enumerate(results.tunings) for which in np.unique(those)]
    each = len(np.unique(results.tunings[0]))
    chosen = draw.permutation(len(pool))[: NULL_POINTS * each].reshape(NULL_POINTS, each)
    points = []
    for place, own in enumerate(chosen):
        trials = [np.flatnonzero(results.tunings[pool[at][0]] == pool[at][1]) for at in own]
        columns = [
            np.concatenate(
                [
                    getattr(results[pool[at][0]], metric)[t]
                    for at, t in zip(own, trials, strict=True)
                ]
            )
            for metric in METRICS
        ]
        first = results[pool[own[0]][0]]
        columns[METRICS.index("perf_val")] -= worse if place else 0.0
        point = first._replace(params={"tag": place}, **dict(zip(METRICS, columns, strict=True)))
        tunings = np.repeat(np.arange(each), [len(t) for t in trials])
        points.append(PointTrials.of(point, np.arange(len(tunings)), tunings=tunings))
    return sweeper.SweepResult(points)


def finds(results: sweeper.SweepResult) -> bool:
    """Whether the first is said to be better than each other one."""
    said = claims(results)
    return results.best() is results[0] and len(said) == len(results) - 1


# -- another tool ---------------------------------------------------------------------------------


def report_finder(options: argparse.Namespace, wanted: Sequence[str]) -> None:
    """What the rate of ignite's FastaiLRFinder reaches, at batch size 32 and the same epochs."""
    oracle = tuning_oracle.load()
    titles = ("problem", "oracle", "reached", "regret", "way, worst", "rates")
    print(f"### ignite's FastaiLRFinder\n\n{turns.head(*titles)}", flush=True)
    for name in wanted:
        if name not in oracle:
            continue
        known, opened = oracle[name], tuning_oracle.Opened.named(name)
        peaks = [suggested(opened, seed) for seed in range(options.sweeps)]
        groups = []
        for number, peak in enumerate(peaks):
            cell = tuning_oracle.Cell(peak, tuning_oracle.SHAPES[0], tuning_oracle.HAND_BATCH)
            seeds = range(1000 * (number + 1), 1000 * (number + 1) + options.trials)
            groups += tuning_oracle.train(opened, [cell], seeds).values()
        perf = statistics.fmean(map(statistics.fmean, groups))
        error = math.hypot(known["oracle_error"], standard_error(groups))
        cells = [
            f"{known['oracle_perf_val']:.4f}",
            f"{perf:.4f}",
            f"{known['oracle_perf_val'] - perf:+.4f} ± {error:.4f}",
            f"{min(way(known, statistics.fmean(group)) for group in groups):.2f}",
            ", ".join(f"{peak:.2g}" for peak in peaks),
        ]
        print(turns.row(name, *cells), flush=True)
    print()


def suggested(opened: tuning_oracle.Opened, seed: int) -> float:
    """What the finder suggests as it is used by default, from 1e-6 on, over a trial's epochs."""
    from ignite.engine import Engine
    from ignite.handlers import FastaiLRFinder
    from torch.utils.data import DataLoader, TensorDataset

    from sweeper.train.problem.optimizer.optimizers import make_optimizer
    from sweeper.train.problem.problem import NO_PARAMS
    from sweeper.train.replica.streams import Streams

    Streams(seed, tuning_oracle.SIGNATURE, "trial", 0).seed_globals("init")
    _, model = opened.problem.make_model(NO_PARAMS)
    loss = opened.problem.make_loss(NO_PARAMS)
    optimizer = make_optimizer(opened.problem.optimizer(NO_PARAMS), model, 1e-6, loss)

    def step(_: Engine, batch: Any) -> float:
        x, y = batch
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return float(value)

    trainer, finder = Engine(step), FastaiLRFinder()
    train = opened.data.train
    samples = TensorDataset(train.x, train.y)
    loader = DataLoader(samples, tuning_oracle.HAND_BATCH, shuffle=True, drop_last=True)
    with (
        warnings.catch_warnings(),
        finder.attach(trainer, {"model": model, "optimizer": optimizer}) as finding,
    ):
        warnings.simplefilter("ignore")
        finding.run(loader, max_epochs=tuning_oracle.CYCLE_EPOCHS)
        return float(finder.lr_suggestion())


# -- the command line -----------------------------------------------------------------------------


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--presets", nargs="+", default=["fast"], metavar="NAME")
    parser.add_argument("--method", help="of tuning, where it is not the preset's own: `ranges`")
    parser.add_argument("--tune", help="what is tuned, such as `lr,batch_size,weight_decay`")
    parser.add_argument("--problems", nargs="+", metavar="NAME", help="by default all")
    parser.add_argument("--held-out", action="store_true", help="those that are held out, instead")
    parser.add_argument("--sweeps", type=int, default=SWEEPS, metavar="K", help="of each problem")
    parser.add_argument("--trials", type=int, default=TRIALS, metavar="N", help="of each sweep")
    parser.add_argument("--cores", type=int, default=4, help="as `sweep` is told; changes results")
    parser.add_argument("--total-cores", type=int, metavar="N", help="to use; by default all")
    parser.add_argument("--out", type=Path, default=Path("out/tuning"), metavar="FOLDER")
    parser.add_argument("--deep", action="store_true", help="thirty points of the deep space")
    parser.add_argument("--null", action="store_true", help="points that differ in their names")
    parser.add_argument("--tuned", type=int, default=NULL_TUNED, metavar="N", help="for --null")
    parser.add_argument("--lr-finder", action="store_true", help="ignite's, for comparison")
    return parser.parse_args(arguments)


def main() -> None:
    """Print the tables, as Markdown."""
    options = read_options()
    wanted = options.problems or tuning_oracle.names(held_out=options.held_out)
    if options.lr_finder:
        report_finder(options, wanted)
        return
    if not (options.deep or options.null):
        print(INTRODUCTION.format(trials=options.trials, sweeps=options.sweeps))
    for preset in options.presets:
        if options.deep:
            report_deep(options, preset)
        elif options.null:
            report_null(options, preset, options.problems or NULL_PROBLEMS)
        else:
            report(options, preset, wanted)


if __name__ == "__main__":
    main()
