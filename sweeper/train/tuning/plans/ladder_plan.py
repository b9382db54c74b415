"""The pure plan of tuning by the ladder: probe outcomes in, the next stage out.

    check -> way -> ladder -> ladder.1 -> ladder.2 -> ladder.3 -> momentum -> weight_decay -> way.1
        -> trial

`check` runs for the first point of a sweep only.  `ladder.3` is the full-length round, if there is
one.  `way` chooses execution modes if points may be packed, `way.1` again if trials of the other
batch size are chosen and worth compiling, or have other options than the optimiser's own.
`momentum` and `weight_decay` run if they are tuned.

All tunings of a point go through a round together, so that their probes share packs; each is
decided by its own probes alone.  A step is plain data and carries all that later steps need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sweeper.disk.arrays import pack_arrays, unpack_arrays
from sweeper.records import (
    CHECK,
    CHOOSE_MODE,
    EAGER,
    Outcome,
    Planned,
    Point,
    Rejected,
    Running,
    Step,
)
from sweeper.settings import SweepSettings
from sweeper.train.tuning import ladder, schedule
from sweeper.train.tuning.names import LADDER, split_stage
from sweeper.train.tuning.option_round import OptionRound
from sweeper.train.tuning.own import CONSTANT
from sweeper.train.tuning.plans.option_plan import LAST, following_step, key_of, settle, tuned_step
from sweeper.train.tuning.plans.range_plan import BASE_BATCH, batches_per_epoch, cycle_epochs
from sweeper.train.tuning.stages import Check, ChooseModes, Chosen, LadderRound, read, step_of
from sweeper.train.tuning.trials import (
    NO_MODE,
    ExecutionMode,
    Trial,
    Trials,
    chosen_mode,
    in_packs,
    steps_of,
    write_modes,
)
from sweeper.train.tuning.tried import (
    Candidate,
    Judged,
    Tried,
    best_loss,
    collect,
    has_diverged,
    untrained,
)

LEAST_STEPS = 20
"""Least steps of a probe."""


@dataclass(frozen=True, slots=True)
class _Carried:
    """State carried from one round to the next."""

    modes: Mapping[int, ExecutionMode]
    constant: float | None = None
    lowered: int = 0
    chosen: tuple[Candidate | None, ...] = ()
    expected: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class LadderPlan:
    """The tuning of every point of one sweep.

    `n_train` is the number of training samples, `optimizer` the name of the problem's optimiser.
    Six methods are `Planner`'s; the others are its steps, each of which depends on the settings.
    """

    settings: SweepSettings
    n_train: int
    optimizer: str
    eager_because: str | None = ""
    """Why no point's trials are packed; may be empty.  None: it is decided per point, from its
    model, data and settings."""
    constant: float | None = None
    """The loss of the best constant prediction, if nothing is tuned."""
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The values to try of each option of the optimiser that is tuned; its own is first."""

    @property
    def tunings(self) -> int:
        """How often each point is tuned."""
        return self.settings.hparams.tunings

    # -- steps ------------------------------------------------------------------------------------

    def first(self, point: Point, *, check: bool) -> Planned:
        """The first step of a point; `check` for the first point of the sweep."""
        if check:
            told = Check(min(BASE_BATCH, self.n_train), steps=1)
            return Planned(point.signature, step_of(CHECK, 1, told))
        if self.eager_because is None:
            # Most probes, and probably the trials, have the first size: its step may be compiled.
            trials = tuple(
                replace(self._trial(self._guess(), size), for_probes=place > 0)
                for place, size in enumerate(self._batch_sizes())
            )
            return Planned(point.signature, step_of(CHOOSE_MODE, len(trials), ChooseModes(trials)))
        mode = ExecutionMode(EAGER, self.eager_because) if self.eager_because else NO_MODE
        return Planned(point.signature, self._begin(dict.fromkeys(self._batch_sizes(), mode)))

    def next(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        """The step after `step`, whose replicas' outcomes are all here, in order of number.

        A probe that failed fails the point: tuning never goes on with fewer initialisations.
        """
        told = read(step.stage, step.payload)
        if isinstance(told, ChooseModes):
            return self._after_mode(point, step, told, outcomes)
        for outcome in outcomes:
            if outcome.failure is not None:
                error = f"{step.stage} {outcome.number}: {outcome.failure.message}"
                return Planned(point.signature, Step.of(Rejected(step.stage, error)), step.stage)
        if isinstance(told, Check):
            choice = outcomes[0].info
            return Planned(point.signature, self.first(point, check=False).step, step.stage, choice)
        if isinstance(told, OptionRound):
            settled = settle(told, outcomes)
            following = self._following(settled.told)
            return Planned(point.signature, following, step.stage, settled.choice, settled.arrays)
        if not isinstance(told, LadderRound):
            raise TypeError(f"stage {step.stage} is none of the ladder's")
        return self._after_round(point, step, told, outcomes)

    def steps_of(self, step: Step, budget: int | None = None) -> float:
        """Training steps of one of the step's replicas; NaN if nothing is trained."""
        return steps_of(step, budget)

    def in_packs(self, step: Step) -> bool:
        """Whether some of the step's replicas are trained in packs."""
        return in_packs(step)

    def steps_after(self, step: Step) -> float:
        """Estimated training steps after a stage: one replica of each later stage, and one trial.

        It assumes the batch size of the first rounds and no additional rounds.
        """
        if not isinstance(step.state, Running):
            return 0.0
        size, options = self._batch_sizes()[0], self.settings.hparams.options
        full = (ladder.WHOLE,) if self._has_full_length() else ()
        match read(step.stage, step.payload):
            case LadderRound(round=number):
                later = full if number != ladder.FULL_LENGTH else ()
                left = (*ladder.ROUNDS[number + 1 :], *later, *[LAST] * len(options))
            case OptionRound(tunings=(Trial(options=done), *_)):
                left = (LAST,) * (len(options) - len(done or {}) - 1)
            case ChooseModes(told=Chosen()):
                left = ()
            case _:
                left = (*ladder.ROUNDS, *full, *[LAST] * len(options))
        trial = self._trial(self._guess(), size).steps
        return trial + float(sum(self._length(one.share, size) for one in left))

    # -- before the rounds ------------------------------------------------------------------------

    def _batch_sizes(self) -> list[int]:
        """The batch sizes that probes may have; first that of the first rounds."""
        given = self.settings.hparams.batch_size
        if given is not None:
            return [min(given, self.n_train)]
        base = ladder.base_batch(self.n_train)
        return list(dict.fromkeys([base, ladder.other_batch(base, self.n_train)]))

    def _guess(self) -> Candidate:
        """Settings for choosing the execution mode, with rates that do not diverge."""
        low, high = ladder.span_of(self.optimizer)
        return Candidate(2.0 ** ((low + high) // 2), self._batch_sizes()[0])

    def _after_mode(
        self, point: Point, step: Step, told: ChooseModes, outcomes: Sequence[Outcome]
    ) -> Planned:
        """The step after the modes are chosen."""
        modes = {
            trial.batch_size: chosen_mode(outcome)
            for trial, outcome in zip(told.trials, outcomes, strict=True)
        }
        if told.told is None:
            following = self._begin(modes)
        else:
            found = map(chosen_mode, outcomes)
            following = tuned_step(
                told.told, dict(zip(map(key_of, told.trials), found, strict=True))
            )
        return Planned(point.signature, following, step.stage, {"ways": write_modes(modes)})

    def _begin(self, modes: Mapping[int, ExecutionMode]) -> Step:
        """The first round; if the rate is given, only one, of the batch sizes that are tuned.

        If nothing is tuned the trials follow.
        """
        hparams, sizes = self.settings.hparams, self._batch_sizes()
        rate, size = hparams.lr, sizes[0]
        if rate is None:
            some = [Candidate(each, size) for each in ladder.first_rates(self.optimizer)]
            return self._round(0, [some] * self.tunings, _Carried(modes))
        if hparams.batch_size is not None and not hparams.options:
            trial = self._trial(Candidate(rate, size), size)
            return tuned_step(Chosen((trial,) * self.tunings, self.constant, modes))
        # Earlier releases did not tune the batch size where the rate was given.
        sizes = [size] if "lr" in hparams.tune else sizes
        number = 0 if len(sizes) == 1 else len(ladder.ROUNDS) - 1
        some = [Candidate(rate, each) for each in sizes]
        return self._round(number, [some] * self.tunings, _Carried(modes))

    # -- rounds -----------------------------------------------------------------------------------

    def _round(
        self,
        number: int,
        candidates: Sequence[Sequence[Candidate]],
        carried: _Carried,
        attempt: int = 0,
    ) -> Step:
        """A round of probes, given each tuning's candidates."""
        made = ladder.round_of(number)
        hparams = self.settings.hparams
        inits, cycles = hparams.probe_inits if number else 1, made.cycles
        sizes = sorted({one.batch_size for some in candidates for one in some})
        lengths = {size: self._length(made.share, size) for size in sizes}
        if number == ladder.FULL_LENGTH:
            inits, cycles = hparams.full_length_inits, hparams.cycles
            lengths = {size: self._steps(self._epochs(), size) for size in sizes}
        told = LadderRound(
            round=number,
            modes=carried.modes,
            constant=carried.constant,
            lowered=carried.lowered,
            chosen=carried.chosen,
            expected=carried.expected,
            candidates=tuple(map(tuple, candidates)),
            inits=inits,
            lengths=lengths,
            cycles=cycles if hparams.schedule == "triangular" else 1,
            schedule=hparams.schedule,
            warmup=hparams.warmup,
            steps=max(lengths.values()),
        )
        stage = f"{LADDER}.{attempt}" if attempt else LADDER
        return step_of(stage, inits * sum(map(len, candidates)), told)

    def _length(self, share: float, batch_size: int) -> int:
        """The steps of a probe that trains for a share of a trial's epochs."""
        return self._steps(share * self.settings.hparams.probe_length * self._epochs(), batch_size)

    def _steps(self, length: float, batch_size: int) -> int:
        """The steps of a probe of so many epochs."""
        return max(LEAST_STEPS, round(length * ladder.kept_samples(self.n_train) / batch_size))

    def _has_full_length(self) -> bool:
        """Whether a full-length round ends the ladder."""
        return self.settings.hparams.full_length_inits > 0 and self.settings.hparams.lr is None

    def _epochs(self) -> int:
        """The epochs of a trial."""
        hparams = self.settings.hparams
        return cycle_epochs(hparams, self.n_train) * hparams.cycles

    def _after_round(
        self, point: Point, step: Step, told: LadderRound, outcomes: Sequence[Outcome]
    ) -> Planned:
        _, attempt = split_stage(step.stage)
        number = told.round
        tried = read_round(told, outcomes)
        constant = told.constant
        if constant is None:
            constant = outcomes[0].metrics.get(CONSTANT, untrained(tried[0]))
        lowered = told.lowered or 0
        carried = _Carried(told.modes, constant, lowered, told.chosen or (), told.expected or ())
        arrays = pack_arrays(ladder.arrays_of(tried))
        rates = sorted(one.candidate.rate for some in tried for one in some)
        everywhere = all(has_diverged(one) for some in tried for one in some)
        if everywhere and not any(carried.chosen):
            lower = [ladder.lowered(some) for some in tried]
            if self.settings.hparams.lr is None and lowered < ladder.MOST_LOWERINGS:
                carried = replace(carried, lowered=lowered + 1)
                again = self._round(number, lower, carried, attempt + 1)
                verdict = {"verdict": "diverged everywhere: lower rates"}
                return Planned(point.signature, again, step.stage, verdict, arrays)
            reason = (
                f"training diverges at a learning rate of {rates[0]:.3g} and above, or the loss of "
                "held-out samples is not finite (is there a NaN or an infinite value in the data?)"
            )
            failed = Step.of(Rejected(step.stage, f"{step.stage}: {reason}"))
            return Planned(point.signature, failed, step.stage, {}, arrays)
        if number == ladder.FULL_LENGTH:
            pairs = zip(carried.chosen, tried, strict=True)
            chosen = [
                kept if kept and not some else ladder.best_at_full_length(some, constant)
                for kept, some in pairs
            ]
            following = self._trials(chosen, carried, tried)
        elif self.settings.hparams.lr is not None:
            chosen = [ladder.of_best_size(some, constant)[0].candidate for some in tried]
            following = self._trials(chosen, carried, tried)
        elif number + 1 < len(ladder.ROUNDS):
            other = self._batch_sizes()[-1]
            candidates = [ladder.following(some, constant, number, other) for some in tried]
            following = self._round(number + 1, candidates, carried, attempt + 1)
        else:
            following = self._after_rounds(attempt, number, tried, carried, constant)
        choice = {"constant": constant, **_choice(following)}
        return Planned(point.signature, following, step.stage, choice, arrays)

    def _after_rounds(
        self,
        attempt: int,
        number: int,
        tried: Sequence[Sequence[Tried]],
        carried: _Carried,
        constant: float,
    ) -> Step:
        """What follows the third round and those after it.

        That is another third round for tunings whose rates are too low, or an additional round for
        those that have found nothing that learns; then a full-length round, if there is one, and
        the trials.
        """
        before = carried.chosen or [None] * len(tried)
        share = ladder.round_of(number).share
        whole = self._epochs() * ladder.kept_samples(self.n_train)
        shares = {size: self._length(share, size) * size / whole for size in self._batch_sizes()}
        found = [
            kept or ladder.choose(some, constant, shares)
            for kept, some in zip(before, tried, strict=True)
        ]
        is_last = number + 1 == len(ladder.ROUNDS)
        climbs = attempt - carried.lowered - number
        if is_last and None not in found and climbs < ladder.MOST_CLIMBS:
            candidates = [
                [] if kept else ladder.higher(some, constant)
                for kept, some in zip(before, tried, strict=True)
            ]
            found = [None if more else one for one, more in zip(found, candidates, strict=True)]
            following = number
        else:
            every = ladder.everything(self.optimizer, self._batch_sizes())
            candidates = [every if one is None else [] for one in found]
            following = number + 1
        if None in found and is_last:
            expected = self._expected(tried, carried)
            carried = replace(carried, chosen=tuple(found), expected=expected)
            return self._round(following, candidates, carried, attempt + 1)
        chosen = [
            ladder.least_bad(some, constant) if one is None else one
            for one, some in zip(found, tried, strict=True)
        ]
        if not (any(found) and self._has_full_length()):
            return self._trials(chosen, carried, tried)
        candidates = [[] if one is None else ladder.full_length(one) for one in found]
        expected = self._expected(tried, carried)
        carried = replace(carried, chosen=tuple(chosen), expected=expected)
        return self._round(ladder.FULL_LENGTH, candidates, carried, attempt + 1)

    # -- the end ----------------------------------------------------------------------------------

    def _trial(self, chosen: Candidate, batch_size: int) -> Trial:
        """The stored settings of a trial."""
        hparams = self.settings.hparams
        epochs = cycle_epochs(hparams, self.n_train)
        per_epoch = batches_per_epoch(self.n_train, batch_size)
        return Trial(
            lr_start=chosen.rate * schedule.LOW[hparams.schedule],
            lr_end=chosen.rate,
            batch_size=batch_size,
            cycle_epochs=epochs,
            cycles=hparams.cycles,
            steps=epochs * hparams.cycles * per_epoch,
            schedule=hparams.schedule,
            warmup=hparams.warmup,
        )

    @staticmethod
    def _expected(tried: Sequence[Sequence[Tried]], carried: _Carried) -> tuple[float | None, ...]:
        """The least loss of each tuning's probes; of one that has none in this round, as known."""
        known = carried.expected or [None] * len(tried)
        pairs = zip(tried, known, strict=True)
        return tuple([best_loss(some) if some else one for some, one in pairs])

    def _trials(
        self, chosen: Sequence[Candidate], carried: _Carried, tried: Sequence[Sequence[Tried]]
    ) -> Step:
        """The trials; number n has the settings of tuning `n % len(chosen)`."""
        losses = self._expected(tried, carried)
        tunings = tuple(
            replace(self._trial(one, one.batch_size), expected=math.inf if loss is None else loss)
            for one, loss in zip(chosen, losses, strict=True)
        )
        return self._following(Chosen(tunings, carried.constant, carried.modes))

    def _following(self, told: Chosen) -> Step:
        """What follows what tunings have found so far."""
        return following_step(
            told, self.settings.hparams, self.optimizer, self.values, self._length
        )


def _choice(following: Step) -> dict[str, Any]:
    """The result of a round: the next candidates, or the settings of each tuning."""
    match read(following.stage, following.payload):
        case LadderRound() as told:
            candidates: Any = told.payload()["candidates"]
            return {"candidates": candidates, "chosen": []}
        case Trials(tunings=tunings) | OptionRound(tunings=tunings):
            chosen = [[trial.lr_end, trial.batch_size] for trial in tunings]
            return {"candidates": None, "chosen": chosen}
        case _:
            return {"candidates": None, "chosen": []}


def read_round(told: LadderRound, outcomes: Sequence[Outcome]) -> list[list[Tried]]:
    """A round's results: the candidates of each tuning, in order."""
    judged = (Judged.read(unpack_arrays(one.arrays)) for one in outcomes)
    return [collect(some, told.inits, judged) for some in told.candidates]
