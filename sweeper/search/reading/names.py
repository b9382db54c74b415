"""The names under which a folder stores a selector's log."""

from __future__ import annotations

from sweeper.code.references import script_name
from sweeper.search.selector import ParamSelector
from sweeper.search.selectors import EARLIER_NAMES


def names_of(selector: ParamSelector) -> tuple[str, ...]:
    """The names under which a folder may store the selector's log, that of a new log first.

    The first is the `name` that the class itself sets; an inherited one does not count, since a
    subclass decides differently.  Without it, it is `"module:Class"`, which is the same whether a
    script is run again or imported.  Then come the names of earlier releases, and for a class with
    a `name` its `"module:Class"` from before it had one.
    """
    kind = type(selector)
    module = script_name() if kind.__module__ == "__main__" else kind.__module__
    by_class = f"{module}:{kind.__qualname__}"
    name = vars(kind).get("name")
    if not isinstance(name, str) or not name:
        return (by_class,)
    return (name, *EARLIER_NAMES.get(name, ()), by_class)
