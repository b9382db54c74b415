"""The names of a selector: what its log is kept under in a folder."""

from __future__ import annotations

from sweeper.search.selector import ParamSelector
from sweeper.search.selectors import EARLIER_NAMES
from sweeper.signature import script_name


def names_of(selector: ParamSelector) -> tuple[str, ...]:
    """The names under which a folder may keep the selector's log, that of a new log first.

    That is the `name` which its class sets; one that is inherited does not count, since a subclass
    decides otherwise than its base.  Else it is `"module:Class"`, the same when a script is run
    again, or imported.  Behind it come those of earlier releases, and what a class that has a name
    was called before it had one.
    """
    kind = type(selector)
    module = script_name() if kind.__module__ == "__main__" else kind.__module__
    by_class = f"{module}:{kind.__qualname__}"
    name = vars(kind).get("name")
    if not isinstance(name, str) or not name:
        return (by_class,)
    return (name, *EARLIER_NAMES.get(name, ()), by_class)
