"""A problem's optimiser: torch's by name, or any class; tuning sets the learning rate.

`optimizer` here is a name or a dict: `Problem.optimizer` has called a function already.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.errors import ProblemError
from sweeper.train.problem.optimizer.recipe import Clipping, Group, Recipe, ordered
from sweeper.train.vectorize.trace import trained

Kind = type[torch.optim.Optimizer]

OPTIMIZERS: Mapping[str, Kind] = {
    name.lower(): kind
    for name, kind in sorted(vars(torch.optim).items())
    if isinstance(kind, type)
    and issubclass(kind, torch.optim.Optimizer)
    and kind is not torch.optim.Optimizer
}
"""torch's optimisers by lower-case name."""

_FIRST = ("sgd", "adam", "adamw")
_NAMES = ", ".join(map(repr, [*_FIRST, *sorted(OPTIMIZERS.keys() - {*_FIRST, "lbfgs"})]))
_EXPECTED = (
    f"one of {_NAMES}, or a dict such as {{'name': 'sgd', 'momentum': 0.9}} or "
    "{'class': MyOptimizer, …} with a subclass of torch.optim.Optimizer"
)
_OWN = {"params", "lr"}
SCALE = "lr_scale"
"""In a parameter group: its learning rate relative to the tuned one."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A problem's `optimizer` attribute, read."""

    kind: Kind
    options: Mapping[str, Any]
    decay_only: tuple[str, ...] = ()
    """Weight decay applies to parameters with one of these in their dotted name; none: to all."""
    groups: Callable[[nn.Module], Any] | None = None
    """The user's function that returns a model's parameter groups."""

    @property
    def name(self) -> str:
        """The lower-case name of an optimiser of torch, else the class's name."""
        name = self.kind.__name__.lower()
        if OPTIMIZERS.get(name) is self.kind:
            return name
        return f"{self.kind.__module__}.{self.kind.__qualname__}"


def is_function_of_points(optimizer: Any) -> bool:
    """Whether a problem's `optimizer` is a function that returns the optimiser of a point."""
    kind = isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer)
    return callable(optimizer) and not kind


def check_optimizer(optimizer: Any) -> None:
    """Check an optimiser and its settings.

    Raises:
        ProblemError: it is no optimiser, or has wrong settings; the message says what is expected.
    """
    try:
        choice = read_optimizer(optimizer)
        if choice.name not in OPTIMIZERS:
            return  # a user's class may do anything with its parameters
        kind: Any = choice.kind
        # Made without parameters: adding them imports torch's compiler, which takes seconds.
        without = type("Checked", (kind,), {"add_param_group": lambda *_: None})
        without([nn.Parameter(torch.zeros(1))], lr=0.1, **choice.options)
    except ProblemError:
        raise
    except Exception as error:
        raise ProblemError(f"settings that torch accepts: {error}") from error


def _named_in(whole: Any) -> list[tuple[str, nn.Parameter]]:
    """The parameters of a model or a loss, under all of their names."""
    named = isinstance(whole, nn.Module)
    return list(whole.named_parameters(remove_duplicate=False)) if named else []


def read_optimizer(optimizer: Any) -> Choice:
    """Read a problem's `optimizer` attribute.

    Raises:
        ProblemError: it is no optimiser; the message says what is expected.
    """
    options = dict(optimizer) if isinstance(optimizer, Mapping) else {"name": optimizer}
    given = [options.pop(key) for key in ("name", "class") if key in options]
    if len(given) != 1:
        raise ProblemError(f"{_EXPECTED}: give either 'name' or 'class'")
    kind = _find_kind(given[0], bare=not isinstance(optimizer, Mapping))
    if "lr" in options:
        raise ProblemError(f"{_EXPECTED}, without 'lr': sweeper tunes the learning rate")
    decay_only, groups = _read_names(options.pop("decay_only", ())), options.pop("groups", None)
    if groups is not None and not callable(groups):
        raise ProblemError(f"'groups' to be a function of the model: {groups!r} cannot be called")
    if groups is not None and decay_only:
        raise ProblemError("'decay_only' or 'groups', not both")
    _check_options(kind, options)
    if decay_only and "weight_decay" not in inspect.signature(kind).parameters:
        raise ProblemError(f"an optimizer with weight decay beside 'decay_only': {_said(kind)} not")
    return Choice(kind, options, decay_only, groups)


def _find_kind(given: Any, *, bare: bool) -> Kind:
    kind: Any = OPTIMIZERS.get(given.lower()) if isinstance(given, str) else None
    if isinstance(given, type) and issubclass(given, torch.optim.Optimizer) and not bare:
        kind = given
    if kind is None or kind is torch.optim.Optimizer:
        raise ProblemError(f"{_EXPECTED}: {given!r} is not known")
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise ProblemError(
            f"an optimizer that makes a step from gradients: {_said(kind)} does not, since its "
            "step() calls the model again, through a closure"
        )
    found: Kind = kind
    return found


def _said(kind: Kind) -> str:
    return repr(kind.__name__)


def _read_names(given: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise ProblemError(
            f"'decay_only' to be names of parameters, such as ('weight',): it is {given!r}"
        )
    return tuple(names)


def _check_options(kind: Kind, options: Iterable[str]) -> None:
    """Check that the class takes all of these options.

    Raises:
        ProblemError: it lacks one, or takes no learning rate.
    """
    parameters = inspect.signature(kind).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return
    if "lr" not in parameters:
        raise ProblemError(f"an optimizer with a learning rate 'lr': {_said(kind)} has none")
    name = repr(kind.__name__.lower() if kind in OPTIMIZERS.values() else kind.__name__)
    for option in options:
        if option not in parameters.keys() - _OWN:
            known = ", ".join(sorted(parameters.keys() - _OWN))
            raise ProblemError(f"{_EXPECTED}: {name} has no option {option!r}; it has {known}")


# -- making it ------------------------------------------------------------------------------------


def make_optimizer(
    optimizer: Any, model: nn.Module, rate: float, loss: Any = None
) -> torch.optim.Optimizer:
    """The optimiser of a problem's `optimizer` attribute, at learning rate `rate`.

    It updates the parameters of model and loss.  `decay_only` names parameters of both, `groups`
    those of the model alone: the loss's parameters are a group without settings of its own.

    Raises:
        ProblemError: the parameter groups are invalid.
    """
    choice = read_optimizer(optimizer)
    kind: Any = choice.kind
    groups = _groups(choice, model, loss)
    own = list(loss.parameters()) if isinstance(loss, nn.Module) else []
    if groups is None:
        return _with_rate(kind([*model.parameters(), *own], lr=rate, **choice.options))
    if own and choice.groups is not None:
        groups.append({"params": own})
    made = _with_rate(kind(groups, lr=rate, **choice.options))
    set_rate(made, rate)
    return made


def _with_rate(made: torch.optim.Optimizer) -> torch.optim.Optimizer:
    if any("lr" not in group for group in made.param_groups):
        raise ProblemError(
            f"optimizer: {type(made).__name__} keeps no 'lr' in its param_groups; expected one, "
            "since the learning rate changes with every step"
        )
    return made


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the tuned learning rate; each group's rate is relative to it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(SCALE, 1.0)


def recipe_of(optimizer: Any, clipping: Clipping, model: nn.Module) -> Recipe:
    """How the trained parameters of a model are updated, as plain data.

    Raises:
        ProblemError: the parameter groups are invalid.
    """
    choice = read_optimizer(optimizer)
    groups = _groups(choice, model)
    if groups is None:
        return Recipe(choice.name, (Group(ordered(choice.options)),), clipping)
    place_of = {id(parameter): place for place, parameter in enumerate(trained(model))}
    found = []
    for group in groups:
        places = [place_of[id(p)] for p in group["params"] if id(p) in place_of]
        own = {key: value for key, value in group.items() if key not in {"params", SCALE}}
        options = ordered({**choice.options, **own})
        if places:
            found.append(Group(options, tuple(places), float(group.get(SCALE, 1.0))))
    return Recipe(choice.name, tuple(found), clipping)


# -- parameter groups -----------------------------------------------------------------------------


def _groups(choice: Choice, model: nn.Module, loss: Any = None) -> list[dict[str, Any]] | None:
    """Parameter groups as torch takes them; None if all parameters are treated alike."""
    if choice.groups is not None:
        return _read_groups(choice, choice.groups(model), model)
    if not choice.decay_only:
        return None
    names = set(choice.decay_only)
    named = [*_named_in(model), *_named_in(loss)]
    decayed = {id(parameter) for name, parameter in named if names & set(name.split("."))}
    if not decayed:
        raise ProblemError(
            f"optimizer: decay_only is {choice.decay_only!r}, but no parameter's dotted name "
            f"contains one of these: {_some(name for name, _ in named)}"
        )
    parts: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameter in {id(parameter): parameter for _, parameter in named}.values():
        parts[id(parameter) not in decayed].append(parameter)
    groups: list[dict[str, Any]] = [{"params": parts[0]}]
    return groups + [{"params": parts[1], "weight_decay": 0.0}] * bool(parts[1])


def _read_groups(choice: Choice, made: Any, model: nn.Module) -> list[dict[str, Any]]:
    """Read what the user's function returned.

    Raises:
        ProblemError: it is no list of groups of the model's parameters.
    """
    if not isinstance(made, list | tuple) or not all(
        isinstance(group, Mapping) and "params" in group for group in made
    ):
        raise ProblemError(
            f"optimizer: groups(model) returns {made!r:.80}; expected a list of dicts such as "
            "{'params': [...], 'weight_decay': 0.0, 'lr_scale': 0.1}"
        )
    groups = []
    for group in map(dict, made):
        if "lr" in group:
            raise ProblemError(
                f"optimizer: groups(model) returns a group with 'lr'; expected {SCALE!r} instead, "
                "relative to the tuned learning rate"
            )
        scale = group.get(SCALE, 1.0)
        if not isinstance(scale, int | float) or not 0 <= scale < math.inf:
            raise ProblemError(
                f"optimizer: groups(model) returns {SCALE!r} {scale!r}; expected a number ≥ 0"
            )
        _check_options(choice.kind, group.keys() - {"params", SCALE})
        given = group["params"]
        group["params"] = [given] if isinstance(given, Tensor) else list(given)
        if not all(isinstance(parameter, Tensor) for parameter in group["params"]):
            raise ProblemError("optimizer: groups(model) returns 'params' that are not parameters")
        groups.append(group)
    _check_complete(groups, model)
    return groups


def _check_complete(groups: list[dict[str, Any]], model: nn.Module) -> None:
    """Check that the groups hold exactly the trained parameters, which torch does not check."""
    grouped = {id(parameter) for group in groups for parameter in group["params"]}
    left = [name for name, p in model.named_parameters() if p.requires_grad if id(p) not in grouped]
    if left:
        raise ProblemError(
            f"optimizer: groups(model) leaves out {_some(left)}; expected every trained parameter "
            "(freeze others with requires_grad_(False))"
        )
    if grouped - set(map(id, model.parameters())):
        raise ProblemError("optimizer: groups(model) returns parameters that are not the model's")


def _some(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
