"""The pure plan of tuning by range tests: probe outcomes in, the next stage out.

    check -> lr_range -> batch_range -> batch_choice -> lr_rescan -> way -> trial

`check` runs for the first point of a sweep only; the stages after `lr_range` depend on the
settings.  `way` chooses the execution mode of trials.  A learning-rate stage may be repeated
(`lr_range.1`, …) with another span.  A step is plain data and carries all that later steps need, so
a plan can go on from any stored step.  The file is long because it has every step of one method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from sweeper.disk.arrays import pack_arrays, unpack_arrays
from sweeper.records import (
    CHECK,
    CHOOSE_MODE,
    DESCRIBE,
    EAGER,
    TRIAL,
    Outcome,
    Planned,
    Point,
    Rejected,
    Running,
    Step,
)
from sweeper.settings import HyperparameterSettings, Length, SweepSettings
from sweeper.signature import seed_sequence
from sweeper.train.tuning import ranges
from sweeper.train.tuning.names import (
    BATCH_CHOICE,
    BATCH_RANGE,
    LR_RANGE,
    LR_RESCAN,
    STAGE_CODES,
    split_stage,
)
from sweeper.train.tuning.stages import (
    BatchChoice,
    BatchRange,
    Check,
    ChooseMode,
    LrRange,
    read,
    step_of,
    tuned,
)
from sweeper.train.tuning.trials import (
    ExecutionMode,
    Trial,
    Trials,
    chosen_mode,
    in_packs,
    steps_of,
)

BASE_BATCH = 64
"""The batch size of the first range run; rates are relative to it."""

LEAST_STEPS = 100
MOST_LOWERINGS = 8
LEAST_SPAN_LEFT = 0.1
LEAST_SPAN_STEP = 0.05
EXTENSION = 4.0


def cycle_epochs(settings: HyperparameterSettings, n_train: int) -> int:
    """Epochs of one learning-rate cycle: as set, or from the number of training samples."""
    if settings.epochs is not None:
        return settings.epochs // settings.cycles
    if settings.cycle_epochs is not None:
        return settings.cycle_epochs
    return 2 * int(np.clip(300_000 // n_train, 2, 10))


def batches_per_epoch(n_train: int, batch_size: int) -> int:
    """The last partial batch is dropped unless it is the only one."""
    return max(1, n_train // batch_size)


class _Rates(NamedTuple):
    """The learning-rate range that was found."""

    lr_min: float
    lr_max: float
    lr_batch: int
    """The batch size at which it was found."""


@dataclass(frozen=True, slots=True)
class RangePlan:
    """The tuning of every point of one sweep.

    `n_train` is the number of training samples, `seed` the sweep's.  It has many methods since each
    stage has two, which give its step and what follows it, and all depend on the settings.
    """

    settings: SweepSettings
    n_train: int
    seed: int
    eager_because: str | None = ""
    """Why no point's trials are packed; may be empty.  None: it is decided per point, from its
    model, data and settings."""

    @property
    def tunings(self) -> int:
        """How many times each point is tuned."""
        return 1

    def first(self, point: Point, *, check: bool) -> Planned:
        """The first step of a point; `check` for the first point of the sweep."""
        if check:
            told = Check(self._clip(BASE_BATCH), steps=1)
            return Planned(point.signature, step_of(CHECK, 1, told))
        hparams = self.settings.hparams
        span = hparams.lr_start, hparams.lr_end
        return Planned(point.signature, self._lr_step(LR_RANGE, self._clip(BASE_BATCH), span))

    def next(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        """The step after `step`, whose replicas' outcomes are all here, in order of number.

        A replica that failed fails the point: tuning never goes on with fewer initialisations.
        """
        told = read(step.stage, step.payload)
        if isinstance(told, ChooseMode):
            return _after_mode(point, step, told.trial, outcomes[0])
        for outcome in outcomes:
            if outcome.failure is not None:
                error = f"{step.stage} {outcome.number}: {outcome.failure.message}"
                return Planned(point.signature, Step.of(Rejected(step.stage, error)), step.stage)
        match told:
            case Check():
                following = self.first(point, check=False).step
                return Planned(point.signature, following, step.stage, outcomes[0].info)
            case LrRange():
                return self._after_lr(point, step, told, outcomes)
            case BatchRange():
                return self._after_batch_range(point, step, told, outcomes)
            case BatchChoice():
                return self._after_batch_choice(point, step, told, outcomes)
            case _:
                raise TypeError(f"stage {step.stage} is none of the range tests'")

    def steps_of(self, step: Step, budget: int | None = None) -> float:
        """Training steps of one of the step's replicas; NaN if nothing is trained."""
        return steps_of(step, budget)

    def in_packs(self, step: Step) -> bool:
        """Whether some of the step's replicas are trained in packs."""
        return in_packs(step)

    def steps_after(self, step: Step) -> float:
        """Estimated training steps after a stage: one replica of each later stage, and one trial.

        It assumes the point's present batch size and no repeated stages.
        """
        if not isinstance(step.state, Running):
            return 0.0
        base, _ = split_stage(step.stage)
        hparams = self.settings.hparams
        told = read(step.stage, step.payload)
        batch_size = self._clip(BASE_BATCH)
        if isinstance(told, Check | LrRange):
            batch_size = told.batch_size
        per_epoch = batches_per_epoch(self.n_train, batch_size)
        cycle = cycle_epochs(hparams, self.n_train) * per_epoch
        sweep = max(LEAST_STEPS, self._samples(hparams.lr_sweep_len) / batch_size)
        steps = {
            CHECK: 1.0,
            DESCRIBE: 1.0,
            LR_RANGE: sweep,
            BATCH_RANGE: cycle / 2,
            BATCH_CHOICE: cycle if hparams.batch_pts else 0.0,
            LR_RESCAN: sweep if hparams.rescan_lr_after_bs else 0.0,
            CHOOSE_MODE: 1.0,
            TRIAL: cycle * hparams.cycles,
        }
        stages = list(steps)
        return sum(steps[stage] for stage in stages[stages.index(base) + 1 :])

    # -- learning rate ----------------------------------------------------------------------------

    def _lr_step(
        self,
        stage: str,
        batch_size: int,
        span: tuple[float, float],
    ) -> Step:
        hparams = self.settings.hparams
        samples = self._samples(hparams.lr_sweep_len)
        told = LrRange(
            spacing="linear",
            lowered=0,
            extended=False,
            lr_start=span[0],
            lr_end=span[1],
            batch_size=batch_size,
            steps=max(LEAST_STEPS, round(samples / batch_size)),
            **self._warmup(),
        )
        return step_of(stage, max(self.settings.cores, hparams.lr_min_inits), told)

    def _after_lr(
        self, point: Point, step: Step, told: LrRange, outcomes: Sequence[Outcome]
    ) -> Planned:
        found = [unpack_arrays(outcome.arrays) for outcome in outcomes]
        rates = ranges.learning_rates(told.lr_start, told.lr_end, told.steps, told.spacing)
        survived = ranges.surviving_steps([len(run["perf"]) for run in found], len(rates))
        kept = len(rates) if survived is None else survived // 2
        raw = np.stack([run["perf"][:kept] for run in found])
        choice: dict[str, Any] = {"steps_kept": kept, "diverged_after": survived}
        span = told.lr_end - told.lr_start
        kept_span = float(rates[kept - 1]) - told.lr_start if kept else 0.0
        if survived is not None and kept_span < LEAST_SPAN_LEFT * span:
            choice["verdict"] = "diverged early: run again with a lower end"
            if told.lowered >= MOST_LOWERINGS:
                reason = (
                    f"training diverges at a learning rate of {told.lr_end:.3g} and above, "
                    f"after the end of the range was lowered {MOST_LOWERINGS} times (is there a "
                    "NaN or an infinite value in the data?)"
                )
                return _failed(point, step, reason, choice)
            lower = told.lr_start + max(LEAST_SPAN_STEP * span, kept_span)
            again = replace(told, lr_end=lower, lowered=told.lowered + 1)
            return _again(point, step, again, choice)
        curves = ranges.derive(rates[:kept], raw)
        widest = self.settings.hparams.lr_width_only_gradients
        rising = ranges.rising_range(rates[:kept], curves.derived, widest=widest)
        arrays = pack_arrays({"lr": rates[:kept], **curves.arrays(raw)})
        if rising is None or ranges.is_flat(raw):
            choice["verdict"] = "flat: no learning rate improves it"
            if told.spacing == "linear":
                return _again(point, step, replace(told, spacing="log"), choice, arrays)
            return _failed(point, step, "no learning rate improves it", choice, arrays)
        choice |= {"lr_min": rising.low, "lr_max": rising.high, "at_end": rising.at_end}
        if rising.at_end and survived is None and not told.extended:
            choice["verdict"] = "still rising at the end: run again over four times the span"
            again = replace(told, lr_end=told.lr_start + EXTENSION * span, extended=True)
            return _again(point, step, again, choice, arrays)
        choice["verdict"] = "found"
        following = self._after_lr_found(step, _Rates(rising.low, rising.high, told.batch_size))
        return Planned(point.signature, following, step.stage, choice, arrays)

    def _after_lr_found(self, step: Step, found: _Rates) -> Step:
        base, _ = split_stage(step.stage)
        if base == LR_RESCAN:
            return self._trials(*found)
        hparams = self.settings.hparams
        start, end = self._clip(hparams.batch_start), self._clip(hparams.batch_end)
        if start == end:
            return self._after_batch_found(found, start, diverged=False)
        epochs = cycle_epochs(hparams, self.n_train) / 2
        samples = max(end, round(epochs * self.n_train))
        told = BatchRange(
            *found,
            batch_start=start,
            batch_end=end,
            samples=samples,
            steps=len(ranges.batch_sizes(start, end, samples)),
            **self._warmup(),
        )
        replicas = max(self.settings.cores, hparams.batch_rn_min_inits)
        return step_of(BATCH_RANGE, replicas, told)

    # -- batch size -------------------------------------------------------------------------------

    def _after_batch_range(
        self, point: Point, step: Step, told: BatchRange, outcomes: Sequence[Outcome]
    ) -> Planned:
        hparams = self.settings.hparams
        low, high = told.batch_start, told.batch_end
        sizes = ranges.batch_sizes(low, high, told.samples)
        runs = [unpack_arrays(outcome.arrays)["perf"] for outcome in outcomes]
        diverged = any(len(run) < len(sizes) for run in runs)
        padded = np.stack([np.pad(run, (0, len(sizes) - len(run))) for run in runs])
        distinct, raw = ranges.mean_by_size(sizes, padded)
        choice: dict[str, Any] = {"diverged": diverged}
        arrays = {"batch_size": distinct, "raw": raw}
        weights_from = (distinct, np.ones(len(distinct)))
        if len(distinct) >= ranges.LEAST_POINTS:
            curves = ranges.derive(distinct, raw)
            arrays |= curves.arrays(raw)
            weights_from = (distinct, curves.derived)
            rising = ranges.rising_range(distinct, curves.derived)
            if rising is not None:
                low, high = int(rising.low), int(rising.high)
        choice |= {"bs_min": low, "bs_max": high}
        candidates = np.arange(low, max(high, low + 1))
        found = _Rates(told.lr_min, told.lr_max, told.lr_batch)
        if hparams.batch_pts == 0 or len(candidates) == 1:
            middle = (low + high) // 2
            choice["batch_size"] = middle
            following = self._after_batch_found(found, middle, diverged=diverged)
        else:
            weights = ranges.sampling_weights(*weights_from, candidates)
            count = min(hparams.batch_pts, len(candidates))
            drawn = self._choices(point).choice(candidates, count, replace=False, p=weights)
            following = self._batch_choice_step(found, sorted(map(int, drawn)), diverged)
        return Planned(point.signature, following, step.stage, choice, pack_arrays(arrays))

    def _batch_choice_step(self, found: _Rates, sizes: list[int], diverged: bool) -> Step:
        hparams = self.settings.hparams
        inits = max(self.settings.cores, hparams.batch_pt_min_inits)
        epochs = cycle_epochs(hparams, self.n_train)
        told = BatchChoice(
            *found,
            sizes=sizes,
            inits=inits,
            cycle_epochs=epochs,
            range_diverged=diverged,
            steps=epochs * batches_per_epoch(self.n_train, sizes[len(sizes) // 2]),
        )
        return step_of(BATCH_CHOICE, len(sizes) * inits, told)

    def _after_batch_choice(
        self, point: Point, step: Step, told: BatchChoice, outcomes: Sequence[Outcome]
    ) -> Planned:
        sizes = told.sizes
        finals = np.array([outcome.metrics["perf"] for outcome in outcomes])
        by_size = finals.reshape(len(sizes), told.inits)
        scores = ranges.log_mean_exp(by_size.T)
        best = sizes[int(np.argmax(scores))]
        arrays = pack_arrays(
            {"batch_size": np.array(sizes), "final_perf": by_size, "combined": scores}
        )
        found = _Rates(told.lr_min, told.lr_max, told.lr_batch)
        # The rates were found at another batch size; if every run diverged, they do not apply here.
        diverged = told.range_diverged or not finals.any()
        following = self._after_batch_found(found, best, diverged=bool(diverged))
        return Planned(point.signature, following, step.stage, {"batch_size": best}, arrays)

    def _after_batch_found(self, found: _Rates, batch_size: int, *, diverged: bool) -> Step:
        hparams = self.settings.hparams
        scale = batch_size / found.lr_batch
        if not hparams.rescan_lr_after_bs and not diverged:
            return self._trials(found.lr_min * scale, found.lr_max * scale, batch_size)
        span = hparams.lr_start * scale, hparams.lr_end * scale
        return self._lr_step(LR_RESCAN, batch_size, span)

    # -- the end ----------------------------------------------------------------------------------

    def _trials(self, low: float, high: float, batch_size: int) -> Step:
        epochs = cycle_epochs(self.settings.hparams, self.n_train)
        cycles = self.settings.hparams.cycles
        per_epoch = batches_per_epoch(self.n_train, batch_size)
        trial = Trial(low, high, batch_size, epochs, cycles, epochs * cycles * per_epoch)
        if self.eager_because is None:
            return step_of(CHOOSE_MODE, 1, ChooseMode(trial))
        if self.eager_because:
            trial = replace(trial, mode=ExecutionMode(EAGER, self.eager_because))
        return tuned(Trials(trial))

    def _clip(self, batch_size: int) -> int:
        return min(batch_size, self.n_train)

    def _samples(self, length: Length) -> int:
        return length if isinstance(length, int) else round(length * self.n_train)

    def _warmup(self) -> dict[str, Any]:
        hparams = self.settings.hparams
        batch_size = self._clip(hparams.warmup_batch)
        steps = math.ceil(self._samples(hparams.warmup_pts) / batch_size)
        return {
            "warmup_lr": hparams.warmup_lr,
            "warmup_batch": batch_size,
            "warmup_steps": steps,
        }

    def _choices(self, point: Point) -> np.random.Generator:
        """The stream that draws batch sizes; no replica shares it."""
        return np.random.default_rng(
            seed_sequence(self.seed, point.signature, STAGE_CODES[BATCH_CHOICE])
        )


def _again(
    point: Point,
    step: Step,
    told: LrRange,
    choice: Mapping[str, Any],
    arrays: bytes = b"",
) -> Planned:
    base, attempt = split_stage(step.stage)
    again = step_of(f"{base}.{attempt + 1}", step.replicas, told)
    return Planned(point.signature, again, step.stage, choice, arrays)


def _after_mode(point: Point, step: Step, trial: Trial, outcome: Outcome) -> Planned:
    """The trials, after the mode is chosen."""
    mode = chosen_mode(outcome)
    following = tuned(Trials(replace(trial, mode=mode)))
    return Planned(point.signature, following, step.stage, mode.payload())


def _failed(
    point: Point,
    step: Step,
    reason: str,
    choice: Mapping[str, Any],
    arrays: bytes = b"",
) -> Planned:
    failed = Step.of(Rejected(step.stage, f"{step.stage}: {reason}"))
    return Planned(point.signature, failed, step.stage, choice, arrays)
