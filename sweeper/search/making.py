"""Makes a selector from its name and options, as `--selector NAME --option key=value` does."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from sweeper.errors import SelectorError, SweeperError, UsageError
from sweeper.search.selector import ParamSelector
from sweeper.search.selectors import find_selector
from sweeper.search.values import read_option, suggestion


def takes(name: str, argument: str) -> bool:
    """Whether the selector `name` has a parameter `argument`, `**argument` included.

    Raises:
        UsageError: as `find_selector`.
    """
    named, rest = _parameters(name)
    return argument in named or argument == rest


def make_selector(
    name: str, options: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> ParamSelector:
    """Make the selector `name`, with options by the names of its parameters.

    Args:
        name: A name that `find_selector` knows.
        options: Arguments by name.  Text is parsed as on the command line: see `read_option`.
        given: Further arguments, used where the selector has a parameter of that name and no
            option sets it; for a parameter like `**axes`, a mapping of more arguments.

    Raises:
        UsageError: no selector has this name; it has no such option, or lacks one; or one breaks
            its rule.
        SelectorError: making it raised another error, or returned something else.
    """
    named, rest = _parameters(name)
    arguments = {
        key: read_option(value, f"option {key}={value}") if isinstance(value, str) else value
        for key, value in options.items()
    }
    for key, value in options.items():
        if key not in named and rest is None:
            raise UsageError(
                f"option {key}={value}: selector {name} has no such option"
                f"{suggestion(key, named)}; it takes {', '.join(named) or 'no options'}"
            )
    for key, value in (given or {}).items():
        if key in named:
            arguments.setdefault(key, value)
        elif key == rest:
            arguments = {**value, **arguments}
    missing = [key for key, needed in named.items() if needed and key not in arguments]
    if missing:
        raise UsageError(
            f"selector {name} needs {' and '.join(missing)}: give --option {missing[0]}=…"
        )
    return _call(name, arguments)


def _parameters(name: str) -> tuple[dict[str, bool], str | None]:
    """The selector's parameters, with whether each is required, and the name of its `**` one."""
    parameters = inspect.signature(find_selector(name)).parameters.values()
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = {each.name: each.default is each.empty for each in parameters if each.kind in by_name}
    rest = [each.name for each in parameters if each.kind is each.VAR_KEYWORD]
    return named, rest[0] if rest else None


def _call(name: str, arguments: Mapping[str, Any]) -> ParamSelector:
    try:
        made = find_selector(name)(**arguments)
    except SweeperError:
        raise
    except Exception as error:
        raise SelectorError(f"selector {name} raised {type(error).__name__}: {error}") from error
    if not isinstance(made, ParamSelector):
        raise SelectorError(
            f"selector {name} made {made!r} (a {type(made).__name__}); expected a ParamSelector"
        )
    return made
