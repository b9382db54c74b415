"""`Explorer` and `Launcher`: a grid as a plain Python program, in a file of its own.

from sweeper import Explorer

@Explorer
def explore(launcher):
    launcher(width=32, trials=5)
    deep = launcher.bind(depth=3)
    for width in (16, 32, 64):
        deep(width=width)
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from sweeper.errors import SelectorError, SweeperError, UsageError
from sweeper.search.checks import check_count
from sweeper.search.selector import Ask
from sweeper.signature import encode, normalise

FOLDER = "grids"
"""Programs are named by their path below a folder of this name."""

Launch: TypeAlias = tuple[dict[str, Any], int | None, int | None]
"""A point by name, its trials (None: as many as is usual in this sweep), and their budget."""


class Launcher:
    """Takes the points of a grid, one by one: `launcher(width=32, trials=5)`."""

    def __init__(
        self,
        into: list[Launch],
        params: Mapping[str, Any] | None = None,
        trials: int | None = None,
        budget: int | None = None,
    ) -> None:
        """A launcher that adds to `into`; its points have these params, trials and budget."""
        self._into = into
        self._params = dict(params or {})
        self._trials = trials
        self._budget = budget

    def __call__(
        self, /, *args: Any, trials: int | None = None, budget: int | None = None, **params: Any
    ) -> None:
        """Add a point: what is bound, then these arguments; of the same name the last one counts.

        Args:
            args: Dicts of parameters, or lists of such, all for this one point.  A parameter that
                is called `trials` or `budget` can be given only here.
            trials: How many trials; None: as bound, else as is usual in this sweep.
            budget: How far they go, in learning-rate cycles of a problem or iterations of a
                program; None: as bound, else the whole length of a trial.
            params: Parameters by name.

        Raises:
            UsageError: an argument breaks its rule.
            ParamError: a value that cannot be stored.
        """
        point = self.bind(*args, trials=trials, budget=budget, **params)
        launch = (point._params, point._trials, point._budget)  # noqa: SLF001 - of its own class
        self._into.append(launch)

    def bind(
        self, /, *args: Any, trials: int | None = None, budget: int | None = None, **params: Any
    ) -> Launcher:
        """A launcher whose points have these parameters, too; this one stays as it is.

        Args:
            args: See `__call__`.
            trials: See `__call__`.
            budget: See `__call__`.
            params: See `__call__`.

        Raises:
            UsageError: an argument breaks its rule.
            ParamError: a value that cannot be stored.
        """
        return Launcher(self._into, self._params, self._trials, self._budget).bind_(
            *args, trials=trials, budget=budget, **params
        )

    def bind_(
        self, /, *args: Any, trials: int | None = None, budget: int | None = None, **params: Any
    ) -> Launcher:
        """As `bind`, but changes this launcher, and returns it."""
        given = {**_merged(args), **params}
        self._params |= {name: normalise(value, name) for name, value in given.items()}
        if trials is not None:
            self._trials = check_count("trials", trials)
        if budget is not None:
            self._budget = check_count("budget", budget)
            if self._budget < 1:
                raise UsageError(f"budget={budget!r}: it must be 1 or more")
        return self


def _merged(args: Any) -> dict[str, Any]:
    """The parameters of dicts and of lists of them, in order."""
    found: dict[str, Any] = {}
    for each in args:
        if isinstance(each, Mapping) and all(isinstance(name, str) for name in each):
            found |= each
        elif isinstance(each, list):
            found |= _merged(each)
        else:
            raise UsageError(
                f"launcher({each!r}): it takes parameters by name, as in launcher(width=32), dicts "
                "of them, and lists of such dicts"
            )
    return found


class Explorer:
    """A grid: the function that it decorates is given a `Launcher`, and adds the points.

    The same point twice with the same budget is one, with the larger number of trials.

    Args:
        function: Takes the launcher.  It is called each time the grid is swept.

    Raises:
        UsageError: it is not a function.
    """

    def __init__(self, function: Callable[[Launcher], Any]) -> None:
        if not callable(function):
            raise UsageError(
                f"Explorer({function!r}): decorate a function that takes a launcher: "
                "@Explorer def explore(launcher): launcher(width=32, trials=5)"
            )
        self._function = function
        self.name: str = getattr(function, "__name__", "grid")
        """The grid's name: that of its file, below a folder `grids` by its path."""

    def __call__(self, launcher: Launcher) -> None:
        """Add this grid's points to a launcher of another one."""
        self._function(launcher)

    def __repr__(self) -> str:
        return f"<Explorer: grid {self.name}>"

    def asks(self, trials: int | None) -> list[Ask]:
        """The points of the grid, in the order of first launching.

        Args:
            trials: Number of trials of points that do not say it themselves; None: all must.

        Raises:
            UsageError: a point's arguments break a rule, or nothing says how many trials it has.
            SelectorError: the program raised.
        """
        launched: list[Launch] = []
        try:
            self._function(Launcher(launched))
        except SweeperError:
            raise
        except Exception as error:
            raise SelectorError(f"grid {self.name}: {type(error).__name__}: {error}") from error
        found: dict[tuple[str, int | None], Ask] = {}
        for params, own, budget in launched:
            count = trials if own is None else own
            if count is None:
                raise UsageError(
                    f"grid {self.name}: {params!r} has no number of trials: "
                    "launcher(…, trials=5), or trials= of sweep()"
                )
            key = (encode(params), budget)
            if key not in found or found[key].trials < count:
                found[key] = Ask(params, count, budget)
        return list(found.values())


def load_explorer(path: str | Path) -> Explorer:
    """The grid of a program file.

    Raises:
        UsageError: there is no such file, or it does not have exactly one `Explorer`.
        SelectorError: it cannot be imported.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"{file}: there is no such file: give the program of a grid, a .py file")
    name = name_of_grid(file)
    module = _execute(file, name)
    own = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, Explorer) and _is_defined_in(value, module)
    }
    if len(set(map(id, own.values()))) != 1:
        found = f"it has {', '.join(own)}" if own else "it has none"
        raise UsageError(
            f"{file}: the program of a grid has one function that is decorated with "
            f"@sweeper.Explorer; {found}"
        )
    (explorer, *_) = own.values()
    explorer.name = name
    return explorer


def name_of_grid(file: Path) -> str:
    """The name of a grid: its file's path below the last folder `grids`, with dots; else its name.

    `grids/nets/widths.py` is `nets.widths`.
    """
    parts = [*file.resolve().parent.parts, file.stem]
    below = [place for place, part in enumerate(parts[:-1]) if part == FOLDER]
    return ".".join(parts[below[-1] + 1 :]) if below else file.stem


def _is_defined_in(explorer: Explorer, module: ModuleType) -> bool:
    """Whether it was not imported from elsewhere."""
    return getattr(explorer._function, "__module__", None) == module.__name__  # noqa: SLF001


def _execute(file: Path, name: str) -> ModuleType:
    """Import the file, under a name that nothing else is imported by."""
    spec = importlib.util.spec_from_loader(
        f"{FOLDER}:{name}",
        importlib.machinery.SourceFileLoader(f"{FOLDER}:{name}", str(file)),
        origin=str(file),
    )
    assert spec is not None and spec.loader is not None  # noqa: PT018, S101 - it was given
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as dataclasses need it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SelectorError(f"grid {name}: {file}: {type(error).__name__}: {error}") from error
    finally:
        del sys.modules[spec.name]
    return module
