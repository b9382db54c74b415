"""A problem whose data has been read: what the engine asks of it, without torch."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeper.code.carried import COPIED
from sweeper.code.sources import read_source
from sweeper.errors import ParamError, SettingsError
from sweeper.records import CLASSIC, KFold, Metric, Params, Target
from sweeper.settings import SweepSettings
from sweeper.signature import without_aliases
from sweeper.train.native.toolchain import check_toolchain, processor
from sweeper.train.problem.behaviour.prints import MAKER, Print
from sweeper.train.problem.spec import DataRef, ProblemSpec, TrainContext, environment_of
from sweeper.train.tuning.options import no_option
from sweeper.train.tuning.own import Own
from sweeper.train.tuning.plans.ladder_plan import LadderPlan
from sweeper.train.tuning.plans.point_plan import PointPlan, check_given, with_fixed
from sweeper.train.tuning.plans.range_plan import RangePlan
from sweeper.train.tuning.trials import toolchains_of
from sweeper.train.workload import PRELOAD, Place
from sweeper.workload import Code, Planner, Source, TargetOptions

EXECUTE = "sweeper.train.job:execute"
"""The function that workers execute."""

RANDOM = "the data is random on access"
"""Why points are not packed."""


class OpenProblem:
    """See `OpenWorkload`: a façade, with the methods that this protocol demands."""

    def __init__(
        self, spec: ProblemSpec, data: DataRef, place: Place, fd: int | None, threads: int
    ) -> None:
        """`fd` is the file that workers share, if the data is in one."""
        self.data = data
        self._spec, self._place, self._fd, self._threads = spec, place, fd, threads

    @property
    def identity(self) -> Mapping[str, Any]:
        """The problem's name, and the split if sweeper splits the data."""
        rule = self.data.validation
        told = str(rule) if isinstance(rule, KFold) else rule
        return {**({} if told is None else {"validation": told}), "problem": self._spec.ref.name}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The four metrics of every problem, and those that this one declares."""
        return (*CLASSIC, *self._spec.metrics)

    @property
    def data_sha256(self) -> Sequence[str]:
        """See `OpenWorkload`."""
        return tuple(filter(None, (self.data.sha256, self.data.earlier_sha256)))

    @property
    def code(self) -> Code:
        """See `OpenWorkload`."""
        spec = self._spec
        why = "what handlers do cannot be compared" if spec.has_handlers else ""
        return Code(spec.sources, spec.own_label, spec.source_sha256, spec.stale, why)

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `OpenWorkload`."""
        data = self.data
        return {
            "n_val": data.n_val,
            "n_test": data.n_test,
            "paired": data.validation is not None,
            "parameters": None if (names := self._spec.routes.known) is None else list(names),
            "metrics": [dataclasses.asdict(metric) for metric in self._spec.metrics],
        }

    def versions(self, numerics: int) -> Mapping[str, str]:
        """See `OpenWorkload`; `MKL_CBWR` is empty where it is what workers have by default."""
        setting, usual = os.environ.get("MKL_CBWR", ""), environment_of(numerics).get("MKL_CBWR")
        return {
            "processor": processor(),
            "torch": importlib.metadata.version("torch"),
            "libraries": self._spec.libraries,
            "MKL_CBWR": "" if setting == usual else setting,
        }

    @property
    def notes(self) -> Sequence[str]:
        """See `OpenWorkload`."""
        ref = self._spec.ref
        copied = [] if ref.carried is None else [f"problem {ref.name} is in no file, so {COPIED}"]
        return (self.data.note, *self.data.notes, *copied)

    def check_params(self, params: Params, settings: SweepSettings) -> None:
        """See `OpenWorkload`."""
        self._spec.check_params(params)
        fixed = self._spec.routes.settings(without_aliases(params))
        try:
            check_given(with_fixed(settings, fixed).hparams)
        except SettingsError as error:
            raise ParamError(f"params={params!r}: {error}") from None
        self._check_options(params, settings.hparams.options)

    def _check_options(self, params: Params, options: Sequence[str]) -> None:
        """Check that a point's optimizer has the options that are tuned, as far as is known."""
        own = self._spec.routes.arguments("optimizer", params)
        for name in options:
            if isinstance(own, Mapping) and name in own:
                raise ParamError(
                    f"params={params!r}: {name} is tuned, and the point sets it: leave it out of "
                    "tune, or of the point"
                )
            if not own and self._spec.optimizer and name not in self._spec.options:
                raise ParamError(no_option(self._spec.optimizer, name, self._spec.options))

    def planner(self, settings: SweepSettings, seed: int) -> Planner:
        """How points are tuned, by the method of the settings."""
        eager_because = self._eager_because(settings)

        def method(settings: SweepSettings, own: Own) -> Planner:
            n_train = self.data.n_train if own.data is None else own.data.n_train
            remade = own.data is not None and own.data.remade
            because = RANDOM if remade and eager_because is None else eager_because
            if settings.hparams.method == "ranges":
                return RangePlan(settings, n_train, seed, because)
            optimizer = own.optimizer or self._spec.optimizer
            values = self._spec.options if own.options is None else own.options
            return LadderPlan(settings, n_train, optimizer, because, own.constant, values)

        return PointPlan(self._spec.routes, settings, method)

    def _eager_because(self, settings: SweepSettings) -> str | None:
        """Why nothing of the sweep is packed; None if it is decided per point."""
        if settings.pack == "off":
            return "packing is off"
        if settings.cores_per_trial > 1:
            return "a training has several cores"
        if self._spec.has_handlers:
            return "the problem has handlers"
        if self.data.remade:
            return RANDOM
        return None

    def check_steps(self, payloads: Iterable[Mapping[str, Any]], *, allow: bool) -> None:
        """Check that trials with compiled steps can be resumed here."""
        found = {toolchain for payload in payloads for toolchain in toolchains_of(payload)}
        for toolchain in sorted(found):
            check_toolchain(toolchain, allow=allow)

    def target(self, options: TargetOptions) -> Target:
        """See `OpenWorkload`."""
        context = TrainContext(
            problem=self._spec.ref,
            sources=tuple((source.path, source.sha256) for source in self._spec.sources),
            data=self.data,
            seed=options.seed,
            threads=options.threads,
            curve_samples=options.curve_samples,
            save_models=options.save_models,
            model_path=options.model_path,
            checkpoints=options.checkpoints,
            checkpoint_every=options.checkpoint_every,
            numerics=options.numerics,
            allow_changed_code=options.allow_changed_code,
            keep_ends=options.keep_ends,
        )
        return Target(EXECUTE, context, self._fd, PRELOAD, environment_of(options.numerics))

    def in_this_process(self, numerics: int) -> contextlib.AbstractContextManager[None]:
        """See `OpenWorkload`."""
        from sweeper.train.worker.inline import as_worker  # the only import of torch

        return as_worker(environment_of(numerics))

    def take_fingerprints(self, points: Sequence[tuple[str, str]]) -> Sequence[str | None]:
        """See `OpenWorkload`."""
        function = "sweeper.train.problem.behaviour.fingerprinting:take_fingerprints"
        arguments = self._spec.ref, self.data, self._threads, points
        taken: Sequence[str | None] = self._place.call(function, *arguments)
        return taken

    def is_comparable(self, fingerprint: str | None) -> bool:
        """Whether it is complete and was made by these versions."""
        known = _read(fingerprint)
        return known is not None and known.maker == MAKER

    def is_same(self, fingerprint: str | None, now: str | None) -> bool:
        """See `OpenWorkload`."""
        known, found = _read(fingerprint), _read(now)
        return known is not None and found is not None and known.agrees(found)

    def read_source(self, path: Path, folder: Path) -> Source:
        """See `OpenWorkload`."""
        return read_source(path, folder)

    def release(self) -> None:
        """End the helper process, and with it its copy of the data."""
        self._place.close()


def _read(text: str | None) -> Print | None:
    return None if text is None else Print.read(text)
