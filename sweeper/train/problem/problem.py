"""The imported problem, and checks of what it defines."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from sweeper.code.carried import NO_FILE
from sweeper.code.importing import ModuleRef
from sweeper.code.references import find_importable
from sweeper.code.sources import read_carried, read_sources, stale_sources
from sweeper.errors import ParamError, ProblemError, suggestion
from sweeper.records import NUMERICS
from sweeper.signature import decode, encode, part_of, without_aliases
from sweeper.summary import show_params
from sweeper.train.data.splits import DEFAULT, Rule, read_rule
from sweeper.train.mode.machine import libraries
from sweeper.train.problem.behaviour.returned import note
from sweeper.train.problem.measure.declared import Declared, read_metrics
from sweeper.train.problem.measure.metrics import ACCURACY_STYLES, EARLIER_NAMES, Measure
from sweeper.train.problem.optimizer.optimizers import (
    check_optimizer,
    is_function_of_points,
    read_optimizer,
    recipe_of,
)
from sweeper.train.problem.optimizer.options import values_to_try, with_options
from sweeper.train.problem.optimizer.recipe import Clipping, Recipe, read_bound
from sweeper.train.problem.routing import Routes
from sweeper.train.problem.sets import SETS_EXPECTED, check_sets, shown
from sweeper.train.problem.spec import ProblemSpec, said_of_search
from sweeper.train.problem.threads import own_threads

NO_PARAMS = encode(())
"""The encoded params of a point that gives none: every function has its defaults."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An imported problem.

    It has many methods since it is the only reader of the user's module: one for each attribute
    that a problem may have, which checks it and says what is expected.
    """

    ref: ModuleRef
    module: ModuleType
    numerics: int = NUMERICS
    """The numerics release that the sweep's folder was begun with."""
    routes: Routes = field(init=False, repr=False, compare=False)
    """Which of its functions takes which parameter of a point."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """Options that every optimiser gets, as tuning has found them, or `OF_EACH` in a pack."""

    def __post_init__(self) -> None:
        for attribute in ("model", "dataset", "loss"):
            found = getattr(self.module, attribute, None)
            if not callable(found):
                raise self.fault(attribute, shown(found), _EXPECTED[attribute])
        style = getattr(self.module, "accuracy_style", None)
        if not isinstance(style, str) or EARLIER_NAMES.get(style, style) not in ACCURACY_STYLES:
            choices = ", ".join(repr(choice) for choice in ACCURACY_STYLES)
            near = suggestion(style, ACCURACY_STYLES) if isinstance(style, str) else ""
            raise self.fault("accuracy_style", shown(style), f"one of {choices}{near}")
        _ = self.metrics
        object.__setattr__(self, "routes", Routes.of(self.module, self.numerics))
        # What has no defaults is checked with the first point that gives it.
        if self._needs("dataset"):
            expected = "defaults for all of its parameters: most points share what it then returns"
            raise self.fault("dataset", shown(self.module.dataset), expected)
        if not self._needs("loss") or _is_functional(self.module.loss):
            self.make_loss(NO_PARAMS)
        handlers = getattr(self.module, "handlers", None)
        if handlers is not None and not callable(handlers):
            raise self.fault("handlers", shown(handlers), _EXPECTED["handlers"])
        given = getattr(self.module, "optimizer", "sgd")
        if not is_function_of_points(given) or not self._needs("optimizer"):
            self.check_optimizer(NO_PARAMS)
        try:
            _ = self.clipping
        except ValueError as error:
            raise ProblemError(f"problem {self._named}: {error}") from None

    @property
    def _named(self) -> str:
        where = self.ref.path or self.ref.module
        return self.ref.name if where == self.ref.name else f"{self.ref.name} ({where})"

    def fault(self, attribute: str, found: str, expected: str) -> ProblemError:
        """The error that says what is wrong with an attribute."""
        return ProblemError(f"problem {self._named}: {attribute} is {found}; expected {expected}")

    @property
    def accuracy_style(self) -> str:
        """How performance is measured: a name of `ACCURACY_STYLES`."""
        style = str(self.module.accuracy_style)
        return EARLIER_NAMES.get(style, style)

    @property
    def metrics(self) -> tuple[Declared, ...]:
        """The declared metrics beside loss and performance.

        Raises:
            ProblemError: `metrics` is invalid.
        """
        given = getattr(self.module, "metrics", None)
        try:
            return read_metrics(given)
        except (TypeError, ValueError) as error:
            raise self.fault("metrics", shown(given), str(error)) from None

    def optimizer(self, encoded: str) -> Any:
        """A name, or a dict with its settings, for a point's encoded params.

        See `train/problem/optimizer/optimizers.py`.

        Raises:
            ProblemError: `optimizer` is a function, and raises.
        """
        given = getattr(self.module, "optimizer", "sgd")
        if not is_function_of_points(given):
            return with_options(given, self.options)
        try:
            return with_options(self._call("optimizer", encoded), self.options)
        except Exception as error:
            found = f"an error: {type(error).__name__}: {error}"
            raise self.fault(
                self.called("optimizer", encoded), found, _EXPECTED["optimizer"]
            ) from error

    def with_options(self, options: Mapping[str, Any]) -> Problem:
        """The problem with these options of its optimiser, in place of its own."""
        if not options:
            return self
        found = copy.copy(self)  # checked already
        object.__setattr__(found, "options", options)
        return found

    def check_optimizer(self, encoded: str) -> None:
        """Check the optimiser of a point with these encoded params.

        Raises:
            ProblemError: it is none, or has wrong settings.
        """
        found = self.optimizer(encoded)
        given = getattr(self.module, "optimizer", "sgd")
        what = self.called("optimizer", encoded) if is_function_of_points(given) else "optimizer"
        try:
            check_optimizer(found)
        except ProblemError as error:
            raise self.fault(what, shown(found), str(error)) from None

    @property
    def clipping(self) -> Clipping:
        """How gradients are clipped.

        Raises:
            ValueError: a bound is no positive number, or both are given.
        """
        names = ("clip_grad_norm", "clip_grad_value")
        norm, value = (read_bound(name, getattr(self.module, name, None)) for name in names)
        if norm is not None and value is not None:
            raise ValueError("clip_grad_norm and clip_grad_value are both given; expected only one")
        return Clipping(norm, value)

    def recipe(self, model: nn.Module, encoded: str) -> Recipe:
        """How the trained parameters of a model are updated, for a point's encoded params."""
        return recipe_of(self.optimizer(encoded), self.clipping, model)

    @property
    def handlers(self) -> Callable[..., object] | None:
        """The user's own ignite handlers."""
        attach: Callable[..., object] | None = getattr(self.module, "handlers", None)
        return None if attach is None else own_threads()(attach)

    @property
    def validation(self) -> Rule:
        """How one set is split.

        Raises:
            ProblemError: `validation` is invalid.
        """
        given = getattr(self.module, "validation", DEFAULT)
        try:
            return read_rule(given)
        except ValueError as error:
            raise self.fault("validation", shown(given), str(error)) from None

    def make_loss(self, encoded: str) -> nn.Module:
        """A fresh loss module, for a point's encoded params.

        Raises:
            ProblemError: `loss` does not return one.
        """
        called = self.called("loss", encoded)
        try:
            loss = self._call("loss", encoded)
        except Exception as error:
            how = "called" if called == "loss()" else f"called as {called}"
            raises = f"{how}, it raises {type(error).__name__}: {error}"
            found = f"{shown(self.module.loss)}; {raises}"
            raise self.fault("loss", found, _EXPECTED["loss"]) from error
        if not callable(loss):
            raise self.fault(called, shown(loss), "a loss module, such as torch.nn.MSELoss()")
        if isinstance(loss, nn.Module):
            self._check_new("loss()", [loss])
        return loss  # type: ignore[no-any-return]

    def measure(self, loss: Any) -> Measure:
        """The measure of outputs, with a loss made by `make_loss`."""
        return Measure(self.accuracy_style, loss, self.numerics)

    def make_model(self, encoded: str) -> tuple[nn.Module, nn.Module]:
        """The models to save and to train, often the same, for encoded params.

        Raises:
            ProblemError: `model` returns something else, or weights that it returned before.
        """
        made = self._call("model", encoded)
        pair = made if isinstance(made, tuple) else (made, made)
        if len(pair) != 2 or not all(isinstance(model, nn.Module) for model in pair):
            raise self.fault("what model() returns", shown(made), _EXPECTED["model"])
        self._check_new("model()", pair)
        return pair

    def data_params(self, encoded: str) -> str:
        """The part of a point's encoded params that `dataset` takes, encoded."""
        return part_of(encoded, lambda name: "dataset" in self.routes.takers(name))

    def called(self, function: str, encoded: str) -> str:
        """A function's call with a point's encoded params, as messages show it."""
        arguments = self.routes.arguments(function, decode(encoded))
        return f"{function}({show_params(arguments) if arguments else ''})"

    def _call(self, function: str, encoded: str) -> Any:
        """Call a function of the problem with its part of a point's parameters."""
        params = without_aliases(decode(encoded, self.find))
        arguments = self.routes.arguments(function, params)
        made = getattr(self.module, function)
        with own_threads():
            return made(**arguments) if isinstance(arguments, Mapping) else made(*arguments)

    def _needs(self, function: str) -> bool:
        """Whether a function has parameters without defaults."""
        call = self.routes.calls[function]
        return call is not None and bool(call.needs)

    def _check_new(self, called: str, made: Iterable[nn.Module]) -> None:
        """Check that nothing that earlier trials have trained or changed is returned again."""
        again = note(made)
        if again.trained:
            raise self.fault(
                f"what {called} returns",
                f"a module with trained weights that it returned before: {_listed(again.trained)}",
                "new weights from each call, since trials would go on from each other's weights; "
                "freeze shared ones with requires_grad_(False)",
            )
        if again.changed:
            raise self.fault(
                f"what {called} returns",
                "a module that shares tensors with earlier ones, which training has changed since: "
                f"{_listed(again.changed)}",
                "new ones from each call, or shared modules that training does not change, such "
                "as normalisation kept in evaluation mode",
            )

    def make_dataset(self, encoded: str) -> tuple[Any, ...]:
        """The sets of dataset(), named in `SETS`, for a point's encoded params; a quick check.

        Raises:
            ProblemError: it does not return one to three map-style datasets, or one is empty.
        """
        made = self._call("dataset", encoded)
        return check_sets(self.fault, self.called("dataset", encoded), made)

    def find(self, name: str) -> Any:
        """The class or function `"module:Name"`; the problem's own are found in its module."""
        module, _, qualified = name.partition(":")
        if module == self.ref.module:
            found: Any = self.module
            for part in qualified.split("."):
                found = getattr(found, part, None)
            if found is not None:
                return found
            if self.ref.carried is not None:
                raise ParamError(
                    f"{qualified} was not carried to the worker, since it uses sweeper, or what "
                    "cannot be carried: put it into a module"
                )
        return find_importable(name)

    def _usual_optimizer(self) -> str:
        """The name of the optimiser of points that say nothing of it; empty if all do."""
        return "" if self._needs("optimizer") else read_optimizer(self.optimizer(NO_PARAMS)).name

    def spec(self, imported: Iterable[str] = ()) -> ProblemSpec:
        """The spec for the driver; `imported` are the modules imported with it (see `sources`)."""
        if self.ref.carried is None:
            own = Path(str(self.module.__file__)).resolve().name
            sources = read_sources(self.module, imported)
        else:
            own = f"{self.ref.module}{NO_FILE}"
            sources = read_carried(self.ref.carried, own)
        return ProblemSpec(
            self.ref,
            next(one.sha256 for one in sources if one.label == own),
            sources,
            own,
            # What is typed in again is carried again.
            stale_sources(one for one in sources if self.ref.carried is None or one.label != own),
            self.handlers is not None,
            self.routes,
            libraries(),
            self._usual_optimizer(),
            _pickled_search(self.module),
            tuple(metric for one in self.metrics for metric in one.measured),
            {} if self._needs("optimizer") else values_to_try(self.optimizer(NO_PARAMS)),
        )


def _pickled_search(module: ModuleType) -> bytes | None:
    found = said_of_search(module)
    if "selector" in found:  # it may be any object, and refer to anything
        return None
    try:
        return pickle.dumps(found)
    except Exception:  # noqa: BLE001 - whatever the values raise
        return None


_EXPECTED = {
    "model": "a callable model(*params) or model(**params) that returns a torch.nn.Module, or a "
    "pair (unstripped, stripped) of them",
    "dataset": SETS_EXPECTED,
    "loss": "a callable that returns the loss module, such as torch.nn.CrossEntropyLoss",
    "optimizer": "a function that returns an optimizer: its name, or a dict with its options",
    "handlers": "a callable handlers(trainer, evaluator, trial), or nothing",
}


def _is_functional(loss: Any) -> bool:
    """Whether it is a loss of `torch.nn.functional`, whose parameters are outputs and targets."""
    return not isinstance(loss, type) and str(getattr(loss, "__module__", "")).startswith("torch.")


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


_MOST_NAMES = 4
