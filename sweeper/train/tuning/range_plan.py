"""How a point is tuned, as a pure plan: probe outcomes in, the next stage out.

    check -> lr_range -> batch_range -> batch_choice -> lr_rescan -> way -> trial

`check` is made for the first point of a sweep only; the stages after `lr_range` depend on the
settings.  `way` finds out whether trials may be trained in packs.  A learning-rate stage may be
made again (`lr_range.1`, …) with another span.  A step is plain data and carries all that later
steps need, so a plan goes on from any step that was stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeper.files import pack_arrays, unpack_arrays
from sweeper.records import CHECK, TRIAL, WAY, Found, Outcome, Planned, Point, Step
from sweeper.settings import HyperparameterSettings, Length, SweepSettings
from sweeper.signature import seed_sequence
from sweeper.train.tuning import ranges
from sweeper.train.tuning.stages import (
    BATCH_CHOICE,
    BATCH_RANGE,
    LR_RANGE,
    LR_RESCAN,
    PLAIN,
    STAGE_CODES,
    split_stage,
)

BASE_BATCH = 64
"""The batch size of the first range run, to which rates are scaled."""

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


@dataclass(frozen=True, slots=True)
class Plan:
    """The tuning of every point of one sweep.

    `n_train` is the number of training samples, `seed` the sweep's.
    """

    settings: SweepSettings
    n_train: int
    seed: int
    plain_because: str | None = ""
    """Why no point's trials are packed: empty where nobody wants to know.  None: each point's
    model, data and settings decide."""

    @property
    def tunings(self) -> int:
        """How many times each point is tuned."""
        return 1

    def first(self, point: Point, *, check: bool) -> Planned:
        """The first step of a point; `check` for the first point of the sweep."""
        if check:
            payload = {"batch_size": self._clip(BASE_BATCH), "steps": 1}
            return Planned(point.signature, Step(CHECK, 1, payload))
        hparams = self.settings.hparams
        span = {"lr_start": hparams.lr_start, "lr_end": hparams.lr_end}
        return Planned(point.signature, self._lr_step(LR_RANGE, self._clip(BASE_BATCH), span, {}))

    def next(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        """The step after `step`, whose replicas' outcomes are all here, in order of number.

        A replica that failed fails the point: tuning never goes on with fewer initialisations.
        """
        if step.stage == WAY:
            return self._after_way(point, step, outcomes[0])
        for outcome in outcomes:
            if outcome.failure is not None:
                error = f"{step.stage} {outcome.number}: {outcome.failure.message}"
                return Planned(point.signature, Step(step.stage, error=error), step.stage)
        base, _ = split_stage(step.stage)
        if base == CHECK:
            found = unpack_arrays(outcomes[0].arrays)
            choice = {name: list(map(str, texts)) for name, texts in found.items()}
            return Planned(point.signature, self.first(point, check=False).step, step.stage, choice)
        if base in (LR_RANGE, LR_RESCAN):
            return self._after_lr(point, step, outcomes)
        if base == BATCH_RANGE:
            return self._after_batch_range(point, step, outcomes)
        return self._after_batch_choice(point, step, outcomes)

    def steps_after(self, step: Step) -> float:
        """Training steps of what follows a stage: one replica of each later stage, and one trial.

        Roughly: at the point's present batch size, and without stages that are made again.
        """
        base, _ = split_stage(step.stage)
        if base == TRIAL or step.error is not None:
            return 0.0
        hparams = self.settings.hparams
        batch_size: int = step.payload.get("batch_size", self._clip(BASE_BATCH))
        per_epoch = batches_per_epoch(self.n_train, batch_size)
        cycle = cycle_epochs(hparams, self.n_train) * per_epoch
        sweep = max(LEAST_STEPS, self._samples(hparams.lr_sweep_len) / batch_size)
        steps = {
            CHECK: 1.0,
            LR_RANGE: sweep,
            BATCH_RANGE: cycle / 2,
            BATCH_CHOICE: cycle if hparams.batch_pts else 0.0,
            LR_RESCAN: sweep if hparams.rescan_lr_after_bs else 0.0,
            WAY: 1.0,
            TRIAL: cycle * hparams.cycles,
        }
        stages = list(steps)
        return sum(steps[stage] for stage in stages[stages.index(base) + 1 :])

    # -- learning rate ----------------------------------------------------------------------------

    def _lr_step(
        self,
        stage: str,
        batch_size: int,
        span: Mapping[str, Any],
        carried: Mapping[str, Any],
    ) -> Step:
        hparams = self.settings.hparams
        samples = self._samples(hparams.lr_sweep_len)
        payload = {
            "spacing": "linear",
            "lowered": 0,
            "extended": False,
            **carried,
            **span,
            "batch_size": batch_size,
            "steps": max(LEAST_STEPS, round(samples / batch_size)),
            **self._warmup(),
        }
        return Step(stage, max(self.settings.cores, hparams.lr_min_inits), payload)

    def _after_lr(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        payload = step.payload
        found = [unpack_arrays(outcome.arrays) for outcome in outcomes]
        rates = _spaced(payload)
        survived = ranges.surviving_steps([len(run["perf"]) for run in found], len(rates))
        kept = len(rates) if survived is None else survived // 2
        raw = np.stack([run["perf"][:kept] for run in found])
        choice: dict[str, Any] = {"steps_kept": kept, "diverged_after": survived}
        span = payload["lr_end"] - payload["lr_start"]
        kept_span = float(rates[kept - 1]) - payload["lr_start"] if kept else 0.0
        if survived is not None and kept_span < LEAST_SPAN_LEFT * span:
            choice["verdict"] = "diverged early: run again with a lower end"
            if payload["lowered"] >= MOST_LOWERINGS:
                reason = (
                    f"training diverges at a learning rate of {payload['lr_end']:.3g} and above, "
                    f"after the end of the range was lowered {MOST_LOWERINGS} times (is there a "
                    "NaN or an infinite value in the data?)"
                )
                return self._failed(point, step, reason, choice)
            lower = payload["lr_start"] + max(LEAST_SPAN_STEP * span, kept_span)
            return self._lr_again(point, step, choice, lr_end=lower, lowered=payload["lowered"] + 1)
        curves = ranges.derive(rates[:kept], raw)
        widest = self.settings.hparams.lr_width_only_gradients
        rising = ranges.rising_range(rates[:kept], curves.derived, widest=widest)
        arrays = pack_arrays({"lr": rates[:kept], **curves.arrays(raw)})
        if rising is None or ranges.is_flat(raw):
            choice["verdict"] = "flat: no learning rate improves it"
            if payload["spacing"] == "linear":
                return self._lr_again(point, step, choice, arrays, spacing="log")
            return self._failed(point, step, "no learning rate improves it", choice, arrays)
        choice |= {"lr_min": rising.low, "lr_max": rising.high, "at_end": rising.at_end}
        if rising.at_end and survived is None and not payload["extended"]:
            choice["verdict"] = "still rising at the end: run again over four times the span"
            longer = payload["lr_start"] + EXTENSION * span
            return self._lr_again(point, step, choice, arrays, lr_end=longer, extended=True)
        choice["verdict"] = "found"
        following = self._after_lr_found(step, rising.low, rising.high)
        return Planned(point.signature, following, step.stage, choice, arrays)

    def _lr_again(
        self,
        point: Point,
        step: Step,
        choice: Mapping[str, Any],
        arrays: bytes = b"",
        **changes: Any,
    ) -> Planned:
        base, attempt = split_stage(step.stage)
        again = Step(f"{base}.{attempt + 1}", step.replicas, {**step.payload, **changes})
        return Planned(point.signature, again, step.stage, choice, arrays)

    def _after_lr_found(self, step: Step, low: float, high: float) -> Step:
        base, _ = split_stage(step.stage)
        batch_size = step.payload["batch_size"]
        if base == LR_RESCAN:
            return self._trials(low, high, batch_size)
        hparams = self.settings.hparams
        carried = {"lr_min": low, "lr_max": high, "lr_batch": batch_size}
        start, end = self._clip(hparams.batch_start), self._clip(hparams.batch_end)
        if start == end:
            return self._after_batch_found(carried, start, diverged=False)
        epochs = cycle_epochs(hparams, self.n_train) / 2
        samples = max(end, round(epochs * self.n_train))
        payload = {
            **carried,
            "batch_start": start,
            "batch_end": end,
            "samples": samples,
            "steps": len(batch_sizes(start, end, samples)),
            **self._warmup(),
        }
        replicas = max(self.settings.cores, hparams.batch_rn_min_inits)
        return Step(BATCH_RANGE, replicas, payload)

    # -- batch size -------------------------------------------------------------------------------

    def _after_batch_range(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        payload, hparams = step.payload, self.settings.hparams
        sizes = batch_sizes(payload["batch_start"], payload["batch_end"], payload["samples"])
        runs = [unpack_arrays(outcome.arrays)["perf"] for outcome in outcomes]
        diverged = any(len(run) < len(sizes) for run in runs)
        padded = np.stack([np.pad(run, (0, len(sizes) - len(run))) for run in runs])
        distinct, raw = ranges.mean_by_size(sizes, padded)
        low, high = payload["batch_start"], payload["batch_end"]
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
        carried = {key: payload[key] for key in ("lr_min", "lr_max", "lr_batch")}
        if hparams.batch_pts == 0 or len(candidates) == 1:
            middle = (low + high) // 2
            choice["batch_size"] = middle
            following = self._after_batch_found(carried, middle, diverged=diverged)
        else:
            weights = ranges.sampling_weights(*weights_from, candidates)
            count = min(hparams.batch_pts, len(candidates))
            drawn = self._choices(point).choice(candidates, count, replace=False, p=weights)
            following = self._batch_choice_step(carried, sorted(map(int, drawn)), diverged)
        return Planned(point.signature, following, step.stage, choice, pack_arrays(arrays))

    def _batch_choice_step(
        self, carried: Mapping[str, Any], sizes: list[int], diverged: bool
    ) -> Step:
        hparams = self.settings.hparams
        inits = max(self.settings.cores, hparams.batch_pt_min_inits)
        epochs = cycle_epochs(hparams, self.n_train)
        payload = {
            **carried,
            "sizes": sizes,
            "inits": inits,
            "cycle_epochs": epochs,
            "range_diverged": diverged,
            "steps": epochs * batches_per_epoch(self.n_train, sizes[len(sizes) // 2]),
        }
        return Step(BATCH_CHOICE, len(sizes) * inits, payload)

    def _after_batch_choice(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        payload = step.payload
        sizes = payload["sizes"]
        finals = np.array([outcome.metrics["perf"] for outcome in outcomes])
        by_size = finals.reshape(len(sizes), payload["inits"])
        scores = ranges.log_mean_exp(by_size.T)
        best = sizes[int(np.argmax(scores))]
        arrays = pack_arrays(
            {"batch_size": np.array(sizes), "final_perf": by_size, "combined": scores}
        )
        carried = {key: payload[key] for key in ("lr_min", "lr_max", "lr_batch")}
        # The rates were found at another batch size: where every run diverged they do not carry.
        diverged = payload["range_diverged"] or not finals.any()
        following = self._after_batch_found(carried, best, diverged=bool(diverged))
        return Planned(point.signature, following, step.stage, {"batch_size": best}, arrays)

    def _after_batch_found(
        self, carried: Mapping[str, Any], batch_size: int, *, diverged: bool
    ) -> Step:
        hparams = self.settings.hparams
        scale = batch_size / carried["lr_batch"]
        if not hparams.rescan_lr_after_bs and not diverged:
            return self._trials(carried["lr_min"] * scale, carried["lr_max"] * scale, batch_size)
        span = {"lr_start": hparams.lr_start * scale, "lr_end": hparams.lr_end * scale}
        return self._lr_step(LR_RESCAN, batch_size, span, {})

    # -- the end ----------------------------------------------------------------------------------

    def _trials(self, low: float, high: float, batch_size: int) -> Step:
        epochs = cycle_epochs(self.settings.hparams, self.n_train)
        cycles = self.settings.hparams.cycles
        per_epoch = batches_per_epoch(self.n_train, batch_size)
        payload: dict[str, Any] = {
            "lr_start": low,
            "lr_end": high,
            "batch_size": batch_size,
            "cycle_epochs": epochs,
            "cycles": cycles,
            "steps": epochs * cycles * per_epoch,
        }
        if self.plain_because is None:
            return Step(WAY, 1, {"trial": payload})
        if self.plain_because:
            payload |= {"way": PLAIN, "because": self.plain_because}
        return Step(TRIAL, payload=payload, found=Found(low, high, batch_size))

    def _after_way(self, point: Point, step: Step, outcome: Outcome) -> Planned:
        """A way that could not be found out is the plain one: it never fails a point."""
        if outcome.failure is not None:
            choice = {"way": PLAIN, "because": f"finding out: {outcome.failure.message}"}
        else:
            choice = {key: str(text) for key, text in unpack_arrays(outcome.arrays).items()}
        trial = {**step.payload["trial"], **choice}
        found = Found(trial["lr_start"], trial["lr_end"], trial["batch_size"])
        following = Step(TRIAL, payload=trial, found=found)
        return Planned(point.signature, following, step.stage, choice)

    def _failed(
        self,
        point: Point,
        step: Step,
        reason: str,
        choice: Mapping[str, Any],
        arrays: bytes = b"",
    ) -> Planned:
        failed = Step(step.stage, error=f"{step.stage}: {reason}")
        return Planned(point.signature, failed, step.stage, choice, arrays)

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


def _spaced(payload: Mapping[str, Any]) -> ranges.Array:
    return learning_rates(
        payload["lr_start"], payload["lr_end"], payload["steps"], payload["spacing"]
    )


def learning_rates(start: float, end: float, steps: int, spacing: str) -> ranges.Array:
    """The rates of a range run, shape (steps,): `spacing` is `"linear"` or `"log"`."""
    if spacing == "log":
        return np.geomspace(start, end, steps)
    return np.linspace(start, end, steps)


def batch_sizes(start: int, end: int, samples: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The sizes of a batch-size range run, shape (steps,): linear in samples consumed."""
    sizes: list[int] = []
    consumed = 0
    while consumed < samples:
        sizes.append(round(start + (end - start) * consumed / samples))
        consumed += sizes[-1]
    return np.array(sizes)
