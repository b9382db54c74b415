"""A command as a program: its arguments and environment for a trial.  Pure: nothing is run here."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sweeper.errors import ParamError, SettingsError, UsageError, suggestion
from sweeper.program.metrics import name_fault
from sweeper.records import Alias, Params

GIVEN = ("seed", "trial", "folder", "cores", "budget", "parent_folder")
"""Placeholders of every trial; a parameter of such a name goes before."""

THREADS = tuple(
    f"{library}_THREADS"
    for library in ("OMP_NUM", "MKL_NUM", "OPENBLAS_NUM", "NUMEXPR_NUM", "VECLIB_MAXIMUM")
)
"""The variables by which numerical libraries are told how many threads compute."""

_PARAM = "SWEEPER_PARAM_"

_SCRIPTS = (".py", ".sh", ".r", ".jl", ".js", ".pl", ".rb", ".lua")


@dataclass(frozen=True, slots=True)
class Command:
    """An executable to sweep as it is: each trial is one run of it.

    Where an argument has a parameter in braces, as in `"{lr}"`, it is replaced by the parameter's
    value.  Where none has, all parameters are appended as `--name value` (`--name=value` if the
    value begins with `-`): True as `--name` alone, False and None not at all, a list as several
    values.  In every case the environment has them (`SWEEPER_PARAM_LR`).  `{seed}`, `{trial}` (its
    number), `{folder}` (its own), `{cores}`, `{budget}` and `{parent_folder}` (of the trial that it
    begins from; empty without one) are replaced, too; `{{` and `}}` are braces.

    Raises:
        UsageError: `argv` is no list of texts, or has a brace that begins no placeholder.
        SettingsError: `metrics` breaks its rule.
    """

    argv: tuple[str, ...]
    """The program and its arguments; a list is accepted.  No shell reads them."""
    metrics: Mapping[str, str] | None = None
    """Regular expressions by metric: their one group in parentheses is the number, and the last
    match counts.  None: the metrics are the numbers of the last line of standard output that is a
    JSON object, or else those of the file `metrics.json` in the trial's folder."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "argv", _read_argv(self.argv))
        object.__setattr__(self, "metrics", _read_patterns(self.metrics))
        if any(_names_in(self.argv[0])):
            raise UsageError(
                f"command={self.shown!r}: the program itself cannot be a placeholder: put one that "
                "chooses, such as env or bash, before it"
            )

    @property
    def shown(self) -> str:
        """The command line as one types it."""
        return " ".join(
            each if re.fullmatch(r"[\w@%+=:,./{}-]+", each) else shlex.quote(each)
            for each in self.argv
        )

    @property
    def script(self) -> str:
        """The argument that names what is run: a script, or else the program itself."""
        return next((each for each in self.argv if each.lower().endswith(_SCRIPTS)), self.argv[0])

    @property
    def python_module(self) -> str | None:
        """The module that Python is to run (`-m pkg.train`); None: no script and no `-m`."""
        if self.script != self.argv[0] or "-m" not in self.argv[1:-1]:
            return None
        return self.argv[self.argv.index("-m", 1) + 1]

    @property
    def name(self) -> str:
        """The script's stem, or the last part of the module's name."""
        module = self.python_module
        return module.rpartition(".")[2] if module else PurePath(self.script).stem or "command"

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The names in braces, each once, in order."""
        return tuple(dict.fromkeys(name for each in self.argv for name in _names_in(each)))

    def arguments(self, params: Params, given: Mapping[str, Any]) -> list[str]:
        """The program and its arguments for a point; `given` has the values of `GIVEN`.

        Raises:
            ParamError: the parameters have no names, lack one in braces, or have a value that
                cannot be an argument.
        """
        named = _named(params)
        values = {name: "" if value is None else value for name, value in given.items()} | named
        for name in self.placeholders:
            if name not in values:
                may = _in_braces([*named, *given])
                raise ParamError(
                    f"params={params!r}: the command has the placeholder {{{name}}}"
                    f"{suggestion(name, [*values])}; it may have {may}; {{{{ and }}}} are braces"
                )
        found = [_filled(each, values) for each in self.argv]
        if not any(name in named for name in self.placeholders):
            found += [part for name, value in named.items() for part in _option(name, value)]
        return found

    def environment(self, params: Params, given: Mapping[str, Any]) -> dict[str, str]:
        """The variables that a trial has besides those of its worker.

        Raises:
            ParamError: as `arguments`; or two parameters would have the same variable.
        """
        named = {name: value for name, value in _named(params).items() if value is not None}
        own = {_variable(name): _text(name, value) for name, value in named.items()}
        if len(own) < len(named):
            raise ParamError(
                f"params={params!r}: two of them would be the same variable of the environment, "
                f"one of {', '.join(sorted(own))}: rename one"
            )
        of_trial = {
            f"SWEEPER_{name.upper()}": str(value)
            for name, value in given.items()
            if value is not None
        }
        # The same order of sets in every run, as in every worker.
        threads = dict.fromkeys(THREADS, str(given["cores"]))
        return {"PYTHONHASHSEED": "0", **threads, **of_trial, **own}

    def check(self, params: Params) -> None:
        """Check that a point may have these parameters.

        Raises:
            ParamError: as `arguments` and `environment`.
        """
        given = dict.fromkeys(GIVEN, 0)
        self.arguments(params, given)
        self.environment(params, given)


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """A worker's variables for a command: without those of a trial that a sweep itself runs in."""
    own = {f"SWEEPER_{name.upper()}" for name in GIVEN}
    kept = {
        name: value
        for name, value in environment.items()
        if name not in own and not name.startswith(_PARAM)
    }
    # Without it MKL's products depend on where in memory their operands lie.
    return {"MKL_CBWR": "AUTO", **kept}


# -- what is given --------------------------------------------------------------------------------


def _read_argv(given: object) -> tuple[str, ...]:
    if isinstance(given, str):
        raise UsageError(f"command={given!r}: give a list, such as {shlex.split(given)!r:.200}")
    if not isinstance(given, Sequence) or not given:
        raise UsageError(f"command={given!r}: give the program and its arguments as a list")
    for each in given:
        if not isinstance(each, str | os.PathLike):
            raise UsageError(f"command={given!r}: {each!r} is a {type(each).__name__}, not a text")
    argv = tuple(os.fspath(each) for each in given)
    if not argv[0] or any("\0" in each for each in argv):
        raise UsageError(f"command={given!r}: the program is an empty text, or there is a NUL byte")
    for each in argv:
        _names_in(each)
    return argv


def _read_patterns(given: object) -> dict[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given:
        raise SettingsError(
            f"metrics={given!r}: give regular expressions by metric, such as "
            r"{'acc': r'accuracy: ([\d.]+)'}; which values are better says sweep(metrics=…)"
        )
    for name, pattern in given.items():
        if fault := name_fault(name) or pattern_fault(pattern):
            raise SettingsError(f"metrics: {name!r}: {pattern!r}: {fault}")
    return dict(given)


def pattern_fault(pattern: object) -> str:
    """Why a metric cannot be read by this regular expression; empty if it can."""
    example = r"such as r'accuracy: ([\d.]+)'"
    if not isinstance(pattern, str):
        return f"give a regular expression, {example}"
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        return f"this is no regular expression ({error}): give one {example}"
    if groups != 1:
        return (
            f"it has {groups} groups: put just the number in parentheses, {example}; "
            "(?:…) makes no group"
        )
    return ""


# -- braces and values ----------------------------------------------------------------------------

_BRACE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")


def _names_in(text: str) -> list[str]:
    """The names in braces.

    Raises:
        UsageError: a single brace.
    """
    found = []
    for match in _BRACE.finditer(text):
        if match[0] in ("{", "}"):
            raise UsageError(
                f"command argument {text!r}: {match[0]!r} begins or ends no placeholder such as "
                "{lr}: write {{ and }} for braces"
            )
        if match[1]:
            found.append(match[1])
    return found


def _filled(text: str, values: Mapping[str, Any]) -> str:
    def put(match: re.Match[str]) -> str:
        return _text(match[1], values[match[1]]) if match[1] else match[0][0]

    return _BRACE.sub(put, text)


def _in_braces(names: Sequence[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in dict.fromkeys(names))


def _named(params: Params) -> dict[str, Any]:
    """The parameters by name; aliases are replaced by their values."""
    if not isinstance(params, Mapping):
        raise ParamError(f"params={params!r}: a command takes its parameters by name: give a dict")
    for name in params:
        if "\0" in str(name):
            raise ParamError(
                f"params={params!r}: the name {name!r} has a NUL byte, which no argument of a "
                "command can have: rename the parameter"
            )
    return {
        name: value.value if isinstance(value, Alias) else value for name, value in params.items()
    }


def _variable(name: str) -> str:
    return _PARAM + re.sub(r"\W", "_", name, flags=re.ASCII).upper()


def _option(name: str, value: Any) -> list[str]:
    """A parameter as it is appended."""
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    if isinstance(value, list | tuple):
        return [f"--{name}", *(_text(name, each) for each in value)]
    text = _text(name, value)
    # Alone, -1e-05 or -x would be read as an option.
    return [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]


def _text(name: str, value: Any) -> str:
    """A value as text: numbers as Python writes them, lists and dicts as JSON.

    Raises:
        ParamError: it has no text, or one with a NUL byte.
    """
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except TypeError:
        text = "\0"
    if "\0" in text:
        raise ParamError(
            f"{name}={value!r} cannot be given to a command: give a number, a text without NUL "
            "bytes, a bool, None, or a list or dict of these"
        )
    return text
