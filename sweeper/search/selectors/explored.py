"""`ExploredGrid`: the points of a grid that is a program."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from sweeper.errors import UsageError
from sweeper.search.checks import MOST_TRIALS, check_count
from sweeper.search.explore import Explorer, load_explorer
from sweeper.search.selector import Ask, ParamSelector


class ExploredGrid(ParamSelector):
    """Asks for the points that a program launches, each once.

    If the program has changed when a sweep is run again, new points are added, and points that are
    gone stay on disk and are left out.

    Args:
        program: An `Explorer`, or the path of the file that has one.
        trials: Number of trials of points that do not say it themselves; None: all must.

    Raises:
        UsageError: `program` is something else, or what it launches breaks a rule.
        SelectorError: the program raised.
    """

    name = "explore"
    most_untold = MOST_TRIALS

    def __init__(self, program: Explorer | str | Path, trials: int | None = None) -> None:
        if isinstance(program, str | Path):
            program = load_explorer(program)
        if not isinstance(program, Explorer):
            raise UsageError(
                f"program={program!r} is a {type(program).__name__}: give an Explorer, or the path "
                "of the file that has one"
            )
        self.grid = program.name
        """The name of the grid."""
        self._left = deque(program.asks(None if trials is None else check_count("trials", trials)))

    def get_next_trials(self) -> Ask | None:
        """The next point in the order of launching."""
        return self._left.popleft() if self._left else None

    def has_more_trials(self) -> bool:
        """Whether any point is left."""
        return bool(self._left)
