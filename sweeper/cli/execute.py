"""Runs what the `run` command was asked for.

Imports inside functions are late on purpose: the fork server imports torch meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.cli.command import Metrics
from sweeper.cli.common import (
    FAILED,
    print_results,
    say,
)
from sweeper.cli.manual import how_to_add
from sweeper.cli.steer import how_to_steer
from sweeper.code.importing import is_path
from sweeper.disk.files import current_folder
from sweeper.errors import SettingsError, UsageError, suggestion
from sweeper.program.command.command import Command
from sweeper.program.objective.locate import is_objective
from sweeper.program.spec import RAISE
from sweeper.program.workload import ProgramWorkload
from sweeper.search.reading.spaces import (
    Space,
    choose_selector,
    race_of,
    read_named,
    read_value,
)
from sweeper.search.selectors.manual import ManualSearch
from sweeper.search.selectors.race import Race
from sweeper.settings import HyperparameterSettings, get_settings
from sweeper.show.clean import clean
from sweeper.show.export import json_text
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.train.workload import ProblemWorkload


@dataclass(frozen=True, slots=True)
class Run:
    """The arguments of `run`, as given."""

    module: str | None
    command: tuple[str, ...] | None
    """What stands after `--`."""
    grid: tuple[str, ...]
    random: int | None
    points: int | None
    ranges: tuple[str, ...]
    explore: str | None
    """The path of the file that has an `Explorer`."""
    trials: int | None
    budget: int | None
    race: bool
    selector: str | None
    options: tuple[str, ...]
    seed: int
    hparams: str | None
    tune: str | None
    fields: tuple[str, ...]
    metrics: Metrics
    """Of a program."""
    on_error: str
    redirect: str | None
    profile: bool
    folder: Path | None
    as_json: bool
    quiet: bool
    dry_run: bool
    passed_on: dict[str, Any]
    """Passed to `sweep` unchanged."""


def execute(arguments: Run) -> int:
    """Run the sweep; returns the exit code."""
    if arguments.module is not None:
        look_in_current_folder(arguments.module)
    settings = _read_settings(arguments.hparams, arguments.fields, arguments.tune)
    space = Space.read(
        arguments.grid,
        arguments.random,
        arguments.ranges,
        arguments.trials,
        arguments.seed,
        arguments.selector,
        arguments.options,
        arguments.points,
        arguments.explore,
        arguments.budget,
    )
    with _opened(arguments) as reading:
        import sweeper.engine.engine  # noqa: F401 - needed next; the fork server imports torch meanwhile
        from sweeper.api.sweep import preview, sweep

        name = reading.name
        if isinstance(reading, ProgramWorkload):
            # Which parameters it takes is checked with the first point.
            selector = choose_selector(space, name, reading.module, None, _nothing_own)
        else:
            problem = reading.spec
            known, search = problem.routes.known, problem.search
            selector = choose_selector(space, name, reading.module, known, search)
        if arguments.race:
            selector = race_of(selector, name)
        folder = arguments.folder or Path("out") / name
        given: dict[str, Any] = {"hparams": settings, "folder": folder, "seed": arguments.seed}
        if arguments.dry_run:
            say(clean(str(preview(reading, selector, **given, **arguments.passed_on))))
            return 0
        if isinstance(selector, ManualSearch) and not arguments.quiet:
            say(clean(f"waiting for points: {how_to_add(folder)}"), sys.stderr)
        results = sweep(
            reading,
            selector,
            **given,
            progress=False if arguments.quiet else None,
            **arguments.passed_on,
        )
    files = f"files are in {folder}; load them with sweeper.load({str(folder)!r})"
    if arguments.as_json:
        with Store.read(Paths(folder).database) as store:
            sys.stdout.write(json_text(store.meta["identity"], results))
        if not arguments.quiet:
            say(clean(files), sys.stderr)
    else:
        print_results(results, folder)
        if isinstance(selector, Race):
            say(clean(f"race:\n{selector.summary()}"))
        say(clean(files))
    return FAILED if results.failures else 0


def execute_detached(arguments: Run) -> int:
    """Run the sweep in a process of its own; returns when it has begun."""
    for given, option in ((arguments.dry_run, "--dry-run"), (arguments.as_json, "--json")):
        if given:
            raise UsageError(f"--detach: {option} prints what nobody would wait for: give only one")
    from sweeper.run.processes import detached

    folder = detached.start("sweeper.cli:run_here", (arguments,))
    if not arguments.quiet:
        say(clean(f"the sweep in {folder} has begun and goes on. {how_to_steer(folder)}"))
    return 0


def _opened(
    arguments: Run,
) -> contextlib.AbstractContextManager[ProblemWorkload | ProgramWorkload]:
    """The problem or program, being read.

    Raises:
        UsageError: it cannot be found, or an option means nothing for it.
    """
    from sweeper.api.reading import read_problem, read_program

    given, backend = _given(arguments), arguments.passed_on["backend"]
    metrics = arguments.metrics
    if isinstance(given, str) and not is_objective(given):
        if metrics.directions is not None:
            raise UsageError(
                f"--metric {next(iter(metrics.directions))}: a problem declares its metrics in its "
                "module; --metric goes with a program: pkg.module:name, or a command after --"
            )
        if arguments.redirect is not None:
            raise UsageError(f"--redirect {arguments.redirect}: it goes with a program")
        if arguments.profile:
            raise UsageError("--profile: it goes with a program")
        if arguments.on_error != RAISE:
            raise UsageError(
                f"--on-error {arguments.on_error}: it goes with an objective, pkg.module:name"
            )
        return read_problem(given, backend)
    if arguments.race:
        raise UsageError(
            "--race: it compares perf_val, which a program does not have: give --selector race "
            "--option metric=NAME --option direction=maximize or minimize"
        )
    asked = {name: getattr(arguments, name) for name in ("on_error", "redirect", "profile")}
    return read_program(given, backend, metrics.directions, **asked)


def _given(arguments: Run) -> str | Command:
    """The module, or the command.

    Raises:
        UsageError: there is neither, or both, or an option that goes with the other.
    """
    patterns = arguments.metrics.patterns
    if arguments.command is None:
        if arguments.module is None:
            raise UsageError(
                "what to sweep is missing: give MODULE, or a command after --; "
                "see sweeper run --help"
            )
        if patterns is not None:
            raise UsageError(
                f"--metric {next(iter(patterns.values()))}: a regular expression reads what a "
                "command prints: it goes with a command after --"
            )
        return arguments.module
    if arguments.module is not None:
        raise UsageError(
            f"{arguments.module} and a command after -- exclude each other: give one of them"
        )
    if not arguments.quiet:
        for name in arguments.metrics.guessed:
            better = (arguments.metrics.directions or {})[name]
            other = "min" if better == "maximize" else "max"
            said = f"{name}: {better}, as its name says; --metric {name}:{other} says otherwise"
            say(clean(said), sys.stderr)
    return Command(arguments.command, patterns)


def _nothing_own() -> Mapping[str, Any]:
    """The search of a program's module: it has none.

    Raises:
        UsageError: always.
    """
    raise UsageError(
        "nothing says what to try: give --grid name=a,b, --points N with --range name=low:high, or "
        "--explore FILE"
    )


def look_in_current_folder(module: str) -> None:
    """Look for modules in the current folder, as `python -m` does.

    Only `run` does so: commands that read a folder must not import modules that lie in it.
    """
    here = current_folder()
    if here is None or sys.path[:1] == [str(here)]:
        return
    if is_objective(module):
        module = module.rpartition(":")[0]
    if is_path(module) and Path(module).resolve().parent != here:
        # A script in another folder must not import modules of the current one by accident.
        sys.path.append(str(here))
    else:
        sys.path.insert(0, str(here))


def _read_settings(
    preset: str | None, written: Sequence[str], tune: str | None
) -> HyperparameterSettings | None:
    """The settings of --hparams, --set and --tune; None: none is given."""
    if tune is not None:
        names = "" if tune.strip() == "none" else tune
        written = [*written, f"tune=[{names}]"]
    if preset is None and not written:
        return None
    settings = get_settings(preset)
    known = [field.name for field in dataclasses.fields(settings)]
    changes = read_named("--set", written)
    for name in changes:
        if name not in known:
            raise SettingsError(
                f"--set {name}: no such field{suggestion(name, known)}; the fields are "
                f"{', '.join(known)}"
            )
    return dataclasses.replace(
        settings,
        **{name: read_value(text, f"--set {name}={text}") for name, text in changes.items()},
    )
