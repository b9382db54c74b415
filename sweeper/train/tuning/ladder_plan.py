"""How a point is tuned by the ladder, as a pure plan: probe outcomes in, the next stage out.

    check -> way -> ladder -> ladder.1 -> ladder.2 -> way.1 -> trial

`check` is made for the first point of a sweep only, `way` where points may be packed, and `way.1`
where trials of the other batch size are chosen and worth compiling.  All tunings of a point go
through a round together, so that their probes share packs; each is decided by its own probes alone.
A step is plain data and carries all that later steps need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.files import pack_arrays, unpack_arrays
from sweeper.records import CHECK, TRIAL, WAY, Found, Outcome, Planned, Point, Step
from sweeper.settings import SweepSettings
from sweeper.train.tuning import ladder, schedule
from sweeper.train.tuning.ladder import Candidate, Probe, Tried
from sweeper.train.tuning.range_plan import BASE_BATCH, batches_per_epoch, cycle_epochs
from sweeper.train.tuning.stages import LADDER, PLAIN, split_stage

LEAST_STEPS = 20
"""Of a probe."""

STREAMS = 100_000
"""Numbers of streams that each tuning has in a round."""

CONSTANT = "constant"
"""In the outcome of a point's first probe: the loss of the best constant prediction."""


@dataclass(frozen=True, slots=True)
class LadderPlan:
    """The tuning of every point of one sweep.

    `n_train` is the number of training samples, `optimizer` the name of the problem's optimiser.
    """

    settings: SweepSettings
    n_train: int
    optimizer: str
    plain_because: str | None = ""
    """Why no point's trials are packed: empty where nobody wants to know.  None: each point's
    model, data and settings decide."""

    @property
    def tunings(self) -> int:
        """How often each point is tuned."""
        return self.settings.hparams.tunings

    # -- steps ------------------------------------------------------------------------------------

    def first(self, point: Point, *, check: bool) -> Planned:
        """The first step of a point; `check` for the first point of the sweep."""
        if check:
            payload = {"batch_size": min(BASE_BATCH, self.n_train), "steps": 1}
            return Planned(point.signature, Step(CHECK, 1, payload))
        if self.plain_because is None:
            # Most probes have the first size, and trials probably: it is compiled where it pays.
            trials = [
                {**self._trial(self._guess(), size), "for_probes": place > 0}
                for place, size in enumerate(self._batch_sizes())
            ]
            return Planned(point.signature, Step(WAY, len(trials), {"trials": trials}))
        way = {"way": PLAIN, "because": self.plain_because} if self.plain_because else {}
        return self._begin(point, {str(size): way for size in self._batch_sizes()})

    def next(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        """The step after `step`, whose replicas' outcomes are all here, in order of number.

        A probe that failed fails the point: tuning never goes on with fewer initialisations.
        """
        base, _ = split_stage(step.stage)
        if base == WAY:
            return self._after_way(point, step, outcomes)
        for outcome in outcomes:
            if outcome.failure is not None:
                error = f"{step.stage} {outcome.number}: {outcome.failure.message}"
                return Planned(point.signature, Step(step.stage, error=error), step.stage)
        if base == CHECK:
            found = unpack_arrays(outcomes[0].arrays)
            choice = {name: list(map(str, texts)) for name, texts in found.items()}
            return Planned(point.signature, self.first(point, check=False).step, step.stage, choice)
        return self._after_round(point, step, outcomes)

    def steps_after(self, step: Step) -> float:
        """Training steps of what follows a stage: one replica of each later stage, and one trial.

        Roughly: at the batch size of the first rounds, and without rounds that are added.
        """
        base, _ = split_stage(step.stage)
        if base == TRIAL or step.error is not None:
            return 0.0
        size = self._batch_sizes()[0]
        begun = step.payload["round"] + 1 if base == LADDER else 0
        left = () if "told" in step.payload else ladder.ROUNDS[begun:]
        trial: int = self._trial(self._guess(), size)["steps"]
        return trial + float(sum(self._length(one.share, size) for one in left))

    # -- before the rounds ------------------------------------------------------------------------

    def _batch_sizes(self) -> list[int]:
        """The batch sizes that probes may have, that of the first rounds first."""
        given = self.settings.hparams.batch_size
        if given is not None:
            return [min(given, self.n_train)]
        base = ladder.base_batch(self.n_train)
        return list(dict.fromkeys([base, ladder.other_batch(base, self.n_train)]))

    def _guess(self) -> Candidate:
        """Settings under which it is found out how trials may be trained: rates do no harm."""
        low, high = ladder.span_of(self.optimizer)
        return Candidate(2.0 ** ((low + high) // 2), self._batch_sizes()[0])

    def _after_way(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        """A way that could not be found out is the plain one: it never fails a point."""
        ways: dict[str, dict[str, str]] = {}
        for trial, outcome in zip(step.payload["trials"], outcomes, strict=True):
            if outcome.failure is not None:
                found = {"way": PLAIN, "because": f"finding out: {outcome.failure.message}"}
            else:
                found = {key: str(text) for key, text in unpack_arrays(outcome.arrays).items()}
            ways[str(trial["batch_size"])] = found
        told = step.payload.get("told")
        if told is None:
            following = self._begin(point, ways).step
        else:
            following = self._told({**told, "ways": {**told["ways"], **ways}})
        return Planned(point.signature, following, step.stage, {"ways": ways})

    def _begin(self, point: Point, ways: Mapping[str, Mapping[str, str]]) -> Planned:
        """The first round: of one candidate where the rate is given."""
        size, rate = self._batch_sizes()[0], self.settings.hparams.lr
        carried = {"ways": ways, "constant": None}
        rates = ladder.first_rates(self.optimizer) if rate is None else [rate]
        candidates = [[Candidate(each, size) for each in rates]] * self.tunings
        return Planned(point.signature, self._round(0, candidates, carried))

    # -- rounds -----------------------------------------------------------------------------------

    def _round(
        self,
        number: int,
        candidates: Sequence[Sequence[Candidate]],
        carried: Mapping[str, Any],
        attempt: int = 0,
    ) -> Step:
        """A round of probes: for each tuning the candidates that it tries."""
        made = ladder.ROUNDS[number] if number < len(ladder.ROUNDS) else ladder.WHOLE
        hparams = self.settings.hparams
        inits = hparams.probe_inits if number else 1
        sizes = {one.batch_size for some in candidates for one in some}
        lengths = {str(size): self._length(made.share, size) for size in sorted(sizes)}
        payload = {
            "round": number,
            "ways": carried["ways"],
            "constant": carried["constant"],
            "lowered": carried.get("lowered", 0),
            "chosen": carried.get("chosen"),
            "expected": carried.get("expected"),
            "candidates": [[[one.rate, one.batch_size] for one in some] for some in candidates],
            "inits": inits,
            "lengths": lengths,
            "cycles": made.cycles if hparams.schedule == "triangular" else 1,
            "schedule": hparams.schedule,
            "warmup": hparams.warmup,
            "steps": max(lengths.values()),
        }
        stage = f"{LADDER}.{attempt}" if attempt else LADDER
        return Step(stage, inits * sum(map(len, candidates)), payload)

    def _length(self, share: float, batch_size: int) -> int:
        """The steps of a probe that trains for a share of a trial's epochs."""
        hparams = self.settings.hparams
        epochs = cycle_epochs(hparams, self.n_train) * hparams.cycles
        samples = share * hparams.probe_length * epochs * ladder.kept_samples(self.n_train)
        return max(LEAST_STEPS, round(samples / batch_size))

    def _after_round(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        _, attempt = split_stage(step.stage)
        payload = step.payload
        number: int = payload["round"]
        tried = read_round(payload, outcomes)
        constant = payload["constant"]
        if constant is None:
            constant = outcomes[0].metrics.get(CONSTANT, ladder.untrained(tried[0]))
        carried = {**payload, "constant": constant}
        arrays = pack_arrays(ladder.arrays_of(tried))
        rates = sorted(one.candidate.rate for some in tried for one in some)
        everywhere = all(ladder.has_diverged(one) for some in tried for one in some)
        if everywhere and not any(payload["chosen"] or ()):
            lower = [ladder.lowered(some) for some in tried]
            times = payload["lowered"] + 1
            if self.settings.hparams.lr is None and times <= ladder.MOST_LOWERINGS:
                again = self._round(number, lower, {**carried, "lowered": times}, attempt + 1)
                verdict = {"verdict": "diverged everywhere: lower rates"}
                return Planned(point.signature, again, step.stage, verdict, arrays)
            reason = (
                f"training diverges at a learning rate of {rates[0]:.3g} and above "
                "(is there a NaN or an infinite value in the data?)"
            )
            failed = Step(step.stage, error=f"{step.stage}: {reason}")
            return Planned(point.signature, failed, step.stage, {}, arrays)
        if self.settings.hparams.lr is not None:
            chosen = [some[0].candidate for some in tried]
            following = self._trials(chosen, carried, tried)
        elif number + 1 < len(ladder.ROUNDS):
            other = self._batch_sizes()[-1]
            candidates = [ladder.following(some, constant, number, other) for some in tried]
            following = self._round(number + 1, candidates, carried, attempt + 1)
        else:
            following = self._after_last_round(attempt, number, tried, carried)
        choice: dict[str, Any] = {
            "constant": constant,
            "candidates": following.payload.get("candidates"),
            "chosen": [
                [told["lr_end"], told["batch_size"]]
                for told in following.payload.get("tunings", ())
            ],
        }
        return Planned(point.signature, following, step.stage, choice, arrays)

    def _after_last_round(
        self,
        attempt: int,
        number: int,
        tried: Sequence[Sequence[Tried]],
        carried: Mapping[str, Any],
    ) -> Step:
        """The trials; or a round more, for the tunings that have found nothing that learns."""
        constant = carried["constant"]
        before = carried.get("chosen") or [None] * len(tried)
        found: list[Candidate | None] = [
            Candidate(*kept) if kept else ladder.choose(some, constant)
            for kept, some in zip(before, tried, strict=True)
        ]
        if None in found and number + 1 == len(ladder.ROUNDS):
            every = ladder.everything(self.optimizer, self._batch_sizes())
            candidates = [every if one is None else [] for one in found]
            chosen = [None if one is None else [one.rate, one.batch_size] for one in found]
            expected = [ladder.best_loss(some) for some in tried]
            carried = {**carried, "chosen": chosen, "expected": expected}
            return self._round(number + 1, candidates, carried, attempt + 1)
        least_bad = [
            ladder.least_bad(some, constant) if one is None else one
            for one, some in zip(found, tried, strict=True)
        ]
        return self._trials(least_bad, carried, tried)

    # -- the end ----------------------------------------------------------------------------------

    def _trial(self, chosen: Candidate, batch_size: int) -> dict[str, Any]:
        """What a trial of these settings is told."""
        hparams = self.settings.hparams
        epochs = cycle_epochs(hparams, self.n_train)
        per_epoch = batches_per_epoch(self.n_train, batch_size)
        return {
            "lr_start": chosen.rate * schedule.LOW[hparams.schedule],
            "lr_end": chosen.rate,
            "batch_size": batch_size,
            "cycle_epochs": epochs,
            "cycles": hparams.cycles,
            "steps": epochs * hparams.cycles * per_epoch,
            "schedule": hparams.schedule,
            "warmup": hparams.warmup,
        }

    def _trials(
        self,
        chosen: Sequence[Candidate],
        carried: Mapping[str, Any],
        tried: Sequence[Sequence[Tried]],
    ) -> Step:
        """The trials: number n has the settings of tuning `n % len(chosen)`."""
        before = carried.get("expected") or [None] * len(chosen)
        tunings = [
            {
                **self._trial(one, one.batch_size),
                "expected": ladder.best_loss(some) if some else known,
            }
            for one, some, known in zip(chosen, tried, before, strict=True)
        ]
        ways = carried["ways"]
        told = {"tunings": tunings, "constant": carried["constant"], "ways": ways}
        by_size = {str(trial["batch_size"]): trial for trial in reversed(tunings)}
        later = [trial for size, trial in by_size.items() if ways.get(size, {}).get("later")]
        if later:
            return Step(f"{WAY}.1", len(later), {"trials": later, "told": told})
        return self._told(told)

    def _told(self, told: Mapping[str, Any]) -> Step:
        """The trials, as their tunings say and in the way that was found out for them."""
        tunings = [
            trial | told["ways"].get(str(trial["batch_size"]), {}) for trial in told["tunings"]
        ]
        payload = {**tunings[0], "tunings": tunings, "constant": told["constant"]}
        found = Found(payload["lr_start"], payload["lr_end"], payload["batch_size"])
        return Step(TRIAL, payload=payload, found=found)


# -- what replicas are told -----------------------------------------------------------------------


def probes_of(payload: Mapping[str, Any]) -> list[Probe]:
    """The probes of a round, in order of number."""
    probes: list[Probe] = []
    for tuning, some in enumerate(payload["candidates"]):
        for rate, size in some:
            for init in range(payload["inits"]):
                stream, steps = tuning * STREAMS + init, payload["lengths"][str(size)]
                shape = payload["cycles"], payload["schedule"], payload["warmup"]
                probes.append(Probe(len(probes), stream, rate, size, steps, *shape))
    return probes


def read_round(payload: Mapping[str, Any], outcomes: Sequence[Outcome]) -> list[list[Tried]]:
    """What a round came to: for each tuning its candidates, in order."""
    losses = [tuple(map(float, unpack_arrays(one.arrays)["loss"])) for one in outcomes]
    tried: list[list[Tried]] = []
    place, inits = 0, payload["inits"]
    for some in payload["candidates"]:
        tried.append([])
        for rate, size in some:
            own = tuple(losses[place : place + inits])
            tried[-1].append(Tried(Candidate(rate, size), own))
            place += inits
    return tried


def settings_of(payload: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """What a trial is told: the settings of its tuning."""
    tunings = payload.get("tunings")
    return payload if not tunings else {**payload, **tunings[number % len(tunings)]}
