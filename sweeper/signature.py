"""Signatures, which identify points, and the seeds of replicas: the same on every machine.

A value is encoded as type-tagged JSON, so that 1, 1.0 and True differ and every float is read back
exactly.  A point's signature is the SHA-256 of everything its results depend on.  A replica's
random streams are spawned from the sweep's seed, keyed by the signature and the replica's numbers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import operator
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from sweeper.code.references import find_importable, reference
from sweeper.errors import ParamError
from sweeper.records import Alias, Params, Point, Reference, lineage_of
from sweeper.settings import SweepSettings

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

STREAMS = {"init": 0, "order": 1, "inside": 2, "evaluation": 3}
"""Random streams of a replica: initialisation, data order, randomness inside the model, and the
choice of evaluation samples.  Every result depends on these numbers: never change one."""


# -- values ---------------------------------------------------------------------------------------


DEEPEST = 40
"""Maximum nesting of lists and mappings in a value: deeper ones are an error or an attack."""

_TOO_DEEP = f"is nested more than {DEEPEST} levels deep"


_PLAIN = frozenset({bool, int, float, str, type(None)})


def is_plain(value: Any) -> bool:
    """Whether a value can be stored without further checks: a fast path, since most can."""
    # Exactly these types: an Enum that is also an int would be read back as an int.
    return type(value) in _PLAIN and value == value  # NaN is not  # noqa: PLR0124


def normalise(value: Any, name: str = "parameter") -> Any:
    """The value of a parameter, with numpy scalars converted to Python's; an alias stays one.

    Raises:
        ParamError: it cannot be stored: NaN, a type that is not allowed, more than `DEEPEST` levels
            of nesting, a class or function that cannot be imported; the message names the
            parameter.
    """
    if isinstance(value, Alias):
        return Alias(_normalise(value.value, name, DEEPEST), value.name)
    return _normalise(value, name, DEEPEST)


def without_numpy(value: Any) -> Any:
    """A scalar of numpy as Python's own; anything else as it is."""
    # A script that has not imported numpy is not to wait for it here.
    numpy = sys.modules.get("numpy")
    return value.item() if numpy and isinstance(value, numpy.generic) else value


def _normalise(value: Any, name: str, levels: int) -> Any:
    if levels < 0:
        raise ParamError(f"{name:.80}… {_TOO_DEEP}")
    value = without_numpy(value)
    if is_plain(value):
        return value
    if isinstance(value, float) and math.isnan(value):
        raise ParamError(f"{name} is NaN, which equals nothing, not even itself")
    if isinstance(value, Reference):  # from the results of an earlier sweep
        return find_importable(value)
    if type(value) in (tuple, list):
        items = [
            _normalise(item, f"{name}[{place}]", levels - 1) for place, item in enumerate(value)
        ]
        return tuple(items) if isinstance(value, tuple) else items
    if type(value) is dict:
        return {
            _normalise(key, f"a key of {name}", levels - 1): _normalise(
                item, f"{name}[{key!r}]", levels - 1
            )
            for key, item in value.items()
        }
    if isinstance(value, type) or callable(value):
        reference(value, name)
        return value
    raise _refusal(value, name)


def _refusal(value: Any, name: str) -> ParamError:
    """The error for a value of a type that cannot be stored."""
    if isinstance(value, Alias):
        return ParamError(f"{name}={value!r}: an alias names the whole value of a parameter")
    for kind in (tuple, list, Mapping):
        if isinstance(value, kind):
            plain = "dict" if kind is Mapping else kind.__name__
            return ParamError(
                f"{name}={value!r} is a {type(value).__name__}, which would be read back as a "
                f"{plain}: give {plain}(…)"
            )
    return ParamError(
        f"{name}={value!r} is a {type(value).__name__}: a parameter is a number, string, bool, "
        "None, a tuple, list or dict of these, or an importable class or function"
    )


def params_key(params: Params) -> str:
    """The key of a point's parameters, the same as asked for and as told.

    Raises:
        ParamError: a value that cannot be stored.
    """
    if isinstance(params, Mapping):
        return encode({name: normalise(value, name) for name, value in params.items()})
    return encode(tuple([normalise(value) for value in params]))


def encode(value: Any, *, as_given: bool = False) -> str:
    """The canonical encoding of a normalised value: equal values of equal types give equal text.

    With `as_given` a mapping keeps the order of its names, and an alias its name, instead of being
    encoded as its value: for reading, not for comparing.
    """
    # Built directly for speed: every point of a sweep is encoded each time a folder is opened.
    write = _ATOMS.get(type(value))
    if write is not None:
        return write(value)
    match value:
        case tuple() | list():
            items = ",".join([encode(item, as_given=as_given) for item in value])
            return f'["{"t" if isinstance(value, tuple) else "l"}",[{items}]]'
        case Mapping():
            pairs = [
                (encode(key, as_given=as_given), encode(item, as_given=as_given))
                for key, item in value.items()
            ]
            if not as_given:
                pairs.sort(key=operator.itemgetter(0))
            return f'["d",[{",".join([f"[{key},{item}]" for key, item in pairs])}]]'
        case Alias():
            inner = encode(value.value, as_given=as_given)
            return f'["a",{_quoted(value.name)},{inner}]' if as_given else inner
    for kind, write in _ATOMS.items():
        if isinstance(value, kind):
            return write(value)
    return f'["c",{_quoted(reference(value))}]'


_quoted = json.encoder.encode_basestring_ascii

_ATOMS: Mapping[type, Callable[[Any], str]] = {
    str: lambda value: f'["s",{_quoted(value)}]',
    type(None): lambda _: '["n"]',
    bool: lambda value: '["b",true]' if value else '["b",false]',
    int: lambda value: f'["i","{value}"]',
    float: lambda value: f'["f","{value.hex()}"]',
}


def decode(text: str, find: Callable[[str], Any] = Reference) -> Any:
    """The value of an encoding.

    `find` turns `"module:Name"` into the class or function; by default it stays a `Reference`, so
    that showing a folder imports nothing.

    Raises:
        ParamError: the text is not an encoding of `encode`.
    """
    # A point's value is one level above its parameters, each of which may have the full depth.
    return _untagged(json.loads(text), find, DEEPEST + 1)


def part_of(text: str, holds: Callable[[str], bool]) -> str:
    """The encoding of those of a point's encoded parameters whose name holds, sorted by name.

    It is that of an empty tuple if there are none, as for a point that is a tuple.
    """
    kind, items = json.loads(text)
    kept = [pair for pair in items if kind == "d" and holds(pair[0][1])]
    if not kept:
        return encode(())
    kept.sort(key=lambda pair: _compact(pair[0]))
    return _compact(["d", kept])


def _compact(tagged: Any) -> str:
    return json.dumps(tagged, separators=(",", ":"))


def _untagged(tagged: list[Any], find: Callable[[str], Any], levels: int) -> Any:
    if levels < 0:
        raise ParamError(f"an encoded value {_TOO_DEEP}")
    match tagged:
        case ["n"]:
            return None
        case ["b", bool(value)]:
            return value
        case ["i", str(digits)]:
            return int(digits)
        case ["f", str(digits)]:
            return float.fromhex(digits)
        case ["s", str(value)]:
            return value
        case ["c", str(name)]:
            return find(name)
    return _untagged_parts(tagged, find, levels)


def _untagged_parts(tagged: list[Any], find: Callable[[str], Any], levels: int) -> Any:
    """The value of an encoding that has others in it."""
    match tagged:
        case ["t" | "l" as kind, list(items)]:
            found = [_untagged(item, find, levels - 1) for item in items]
            return tuple(found) if kind == "t" else found
        case ["d", list(pairs)]:
            return {
                _untagged(key, find, levels - 1): _untagged(item, find, levels - 1)
                for key, item in pairs
            }
        case ["a", str(name), item]:
            return Alias(_untagged(item, find, levels - 1), name)
    raise ParamError(f"{tagged!r:.200} is not an encoded value")


def without_aliases(params: Params) -> tuple[Any, ...] | dict[str, Any]:
    """The parameters as the model gets them: aliases are replaced by their values."""
    if not isinstance(params, tuple):
        return {
            name: value.value if isinstance(value, Alias) else value
            for name, value in params.items()
        }
    return tuple([value.value if isinstance(value, Alias) else value for value in params])


def in_order(values: Iterable[T]) -> list[T]:
    """A set's values sorted by their encodings: the same order in every process."""
    return sorted(values, key=lambda value: encode(normalise(value)))


# -- points ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Around:
    """The part of the signature that all points of a sweep share."""

    problem: str
    settings: SweepSettings
    seed: int
    before: str
    after: str


_LAST: list[_Around] = []
"""The shared parts of the last points: points of one sweep may differ in width."""

_KEPT = 8
"""How many of them are kept."""


def _around(problem: str, settings: SweepSettings, seed: int) -> _Around:
    # By identity: equal settings may have different encodings (6 samples, 6.0 epochs).
    for known in _LAST:
        if known.settings is settings and known.problem == problem and known.seed == seed:
            return known
    after = f"{encode_settings(settings)}\n{encode(seed)}"
    found = _Around(problem, settings, seed, f"{encode(problem)}\n", f"\n{after}")
    _LAST[:] = [found, *_LAST[: _KEPT - 1]]
    return found


def encode_settings(settings: SweepSettings) -> str:
    """The settings, without every field that has its first-release default."""
    changed: dict[str, Any] = {}
    for record in (settings, settings.hparams):
        for field in dataclasses.fields(record):
            value = getattr(record, field.name)
            # Compare encodings: a length of 6 counts samples, one of 6.0 epochs.
            absent = field.metadata.get("absent", field.default)
            if field.name != "hparams" and encode(value) != encode(absent):
                changed[field.name] = value
    return encode(changed)


def make_point(
    params: Any, problem: str, settings: SweepSettings, seed: int, module: str | None = None
) -> Point:
    """The point of these parameters, with its signature.

    `module` is the name under which the problem's module was imported.  Its own classes are signed
    with the problem's name instead, so that a point is the same however the problem was given.

    Raises:
        ParamError: `params` is neither a tuple (or list) nor a mapping of names, or has a value
            that cannot be stored.
    """
    plain = False  # a tuple of plain values: a fast path, since there may be a million points
    if type(params) is list:  # as older tools gave them
        params = tuple(params)
    if isinstance(params, Mapping):
        named = dict(params)
        for name in named:
            if not isinstance(name, str):
                raise ParamError(f"params={params!r}: the name {name!r} is not a string")
        normalised: Params = {name: normalise(value, name) for name, value in named.items()}
    elif type(params) is tuple and all(map(is_plain, params)):
        normalised, plain = params, True
    elif isinstance(params, tuple):
        normalised = tuple(
            [normalise(value, f"parameter {place}") for place, value in enumerate(params)]
        )
    else:
        raise ParamError(
            f"params={params!r} is a {type(params).__name__}: give a tuple (passed by position) "
            "or a mapping (passed by name)"
        )
    canonical = encode(normalised)
    own = kept = canonical
    if not plain:
        # Quotes within a text are escaped, so this can stand only where a class or function does.
        own = canonical.replace(f'["c","{module}:', f'["c","{problem}:')
        kept = encode(normalised, as_given=True)
    around = _around(problem, settings, seed)
    signature = hashlib.sha256(f"{around.before}{own}{around.after}".encode()).hexdigest()
    return Point(signature, normalised, kept, settings.cores_per_trial)


# -- seeds ----------------------------------------------------------------------------------------


def seed_sequence(seed: int, signature: str, *numbers: int) -> np.random.SeedSequence:
    """The root of all random streams of a replica, or of a choice, of the point `signature`."""
    words = [int(signature[place : place + 8], 16) for place in range(0, len(signature), 8)]
    import numpy as np

    return np.random.SeedSequence(seed, spawn_key=(*words, *numbers))


@lru_cache(maxsize=16)
def lineage_numbers(stage: str) -> tuple[int, ...]:
    """What the lineage of a stage of trials adds to the numbers of `seed_sequence`."""
    digest = lineage_of(stage).partition("-")[2]
    return tuple(int(digest[place : place + 8], 16) for place in range(0, len(digest), 8))
