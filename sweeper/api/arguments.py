"""Checks what `sweep()` was given, makes options, a selector and a workload of it, and runs it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from sweeper.api.reading import read_problem, read_program
from sweeper.engine.options import Options, check_tuning_inits, read_pack
from sweeper.errors import SettingsError
from sweeper.program.command.command import Command
from sweeper.program.objective.locate import is_objective
from sweeper.program.spec import RAISE
from sweeper.program.workload import ProgramWorkload
from sweeper.run.machine.cores import slots
from sweeper.run.machine.devices import read_devices
from sweeper.run.machine.topology import Topology, usable_cores
from sweeper.run.widths import Width, Widths, read_widths
from sweeper.search.reading.making import as_selector
from sweeper.settings import (
    TUNING_CORES,
    HyperparameterSettings,
    Limits,
    StopWhen,
    SweepSettings,
    get_settings,
)
from sweeper.train.workload import ProblemWorkload

if TYPE_CHECKING:
    from sweeper.engine.preview import Preview
    from sweeper.results import SweepResult


OF_PROGRAM = ("metrics", "on_error", "redirect", "profile")
"""Arguments that a problem does not have."""

OF_PROBLEM = ("hparams", "tuning_inits", "save_models", "checkpoint_every", "curve_samples", "pack")
"""Arguments that a program does not have."""

OF_SELECTOR = ("selector", "trials", "budget")


def run_sweep(given: Mapping[str, Any], usual: Mapping[str, Any]) -> SweepResult:
    """Run a sweep with the arguments `given` to `sweep()`, whose defaults are `usual`.

    Raises:
        SweeperError: as `sweep`.
    """
    module, cores = given["module"], given["cores"]
    of_program = isinstance(module, ProgramWorkload | Command) or is_objective(module)
    if of_program:
        asked = {name: given[name] for name in OF_PROBLEM}
        _check_for_program(usual, cores=TUNING_CORES if _is_width(cores) else cores, **asked)
    told = {name: given[name] for name in OF_PROGRAM}
    _check_of_program(module, of_program=of_program, **told)
    options = _options_of(given, of_program=of_program)
    chosen = as_selector(given["selector"], given["trials"], given["seed"], given["budget"])
    with contextlib.ExitStack() as stack:
        workload: ProblemWorkload | ProgramWorkload
        if isinstance(module, ProblemWorkload | ProgramWorkload):
            workload = module
        elif of_program:
            workload = stack.enter_context(read_program(module, given["backend"], **told))
        else:
            workload = stack.enter_context(read_problem(module, given["backend"]))
        # This import takes a tenth of a second, during which the fork server imports torch.
        from sweeper.engine.engine import run

        return run(workload, chosen, options)


def preview_sweep(given: Mapping[str, Any]) -> Preview:
    """What a sweep of these arguments would do; `module` is a workload.

    Raises:
        SweeperError: as `preview`.
    """
    from sweeper.engine.preview import preview

    workload = given["module"]
    options = _options_of(given, of_program=isinstance(workload, ProgramWorkload))
    return preview(workload, given["selector"], options)


def _check_for_program(usual: Mapping[str, Any], **given: Any) -> None:
    """Refuse arguments that mean nothing for a program.

    Raises:
        SettingsError: one has another value than its default.
    """
    for name, value in given.items():
        if value != usual[name]:
            instead = ": give total_cores= or cores_per_trial=" if name == "cores" else ""
            raise SettingsError(
                f"{name}={value!r:.80}: it means nothing for a program, which is not tuned and "
                f"trains itself{instead}"
            )


def _check_of_program(
    module: object,
    *,
    of_program: bool,
    metrics: object,
    on_error: str,
    redirect: str | None,
    profile: bool,
) -> None:
    """Refuse arguments that go with a program which `sweep` is to open.

    Raises:
        SettingsError: one is given with a problem, or with a program that is open.
    """
    given = {"metrics": metrics} if metrics is not None else {}
    given |= {"on_error": on_error} if on_error != RAISE else {}
    given |= {"redirect": redirect} if redirect is not None else {}
    given |= {"profile": profile} if profile else {}
    for name, value in given.items():
        if isinstance(module, ProgramWorkload):
            raise SettingsError(f"{name}={value!r}: this program was opened with its own")
        if not of_program:
            own = "a problem declares its own in its module; " if name == "metrics" else ""
            raise SettingsError(f"{name}={value!r}: {own}{name}= goes with a program")


_LIMITS = ("max_tries", "stop_after_failures", "trial_timeout")


def _options_of(given: Mapping[str, Any], *, of_program: bool) -> Options:
    """The options among the arguments of `sweep`, checked."""
    others = {"module", "detach", *OF_SELECTOR, *OF_PROGRAM, *_LIMITS}
    asked = {name: value for name, value in given.items() if name not in others}
    limits = Limits(*(given[name] for name in _LIMITS))
    return _read_options(of_program=of_program, limits=limits, **asked)


def _read_options(
    *,
    of_program: bool,
    cores: Width,
    hparams: str | HyperparameterSettings | None,
    tuning_inits: int | None,
    total_cores: int | None,
    cores_per_trial: Width,
    pack: int | str,
    stop_when: StopWhen | Mapping[str, Any] | None,
    devices: object,
    per_device: int,
    devices_per_trial: int,
    min_free_memory: int | str | None,
    device_wait: float,
    **others: Any,
) -> Options:
    """The options of `sweep`, checked; `others` are those that are fields of `Options`."""
    most_in_pack = read_pack(pack)
    mode = "off" if pack == "off" else "auto"
    topology = usable_cores(total_cores)
    widths = _read_widths(cores, cores_per_trial, topology, of_program=of_program)
    if _is_width(cores):
        cores = TUNING_CORES
    inits = cores if tuning_inits is None else check_tuning_inits(tuning_inits)
    width = 1 if widths else cores_per_trial
    dealt = read_devices(devices, per_device, devices_per_trial, min_free_memory, device_wait)
    if dealt and not of_program:
        raise SettingsError(
            f"devices={devices!r}: a problem is trained on cores; devices go with a program"
        )
    return Options(
        settings=SweepSettings(get_settings(hparams), cast("int", inits), cast("int", width), mode),
        tuning_cores=cast("int", cores),
        pack=most_in_pack,
        stop_when=StopWhen.read(stop_when),
        slots=slots(topology, cast("int", width)),
        topology=topology,
        widths=widths,
        devices=dealt,
        **others,
    )


def _is_width(cores: Width) -> bool:
    """Whether `cores` gives each point a width, as `cores_per_trial` does."""
    return isinstance(cores, str) or callable(cores)


def _read_widths(
    cores: Width, cores_per_trial: Width, topology: Topology, *, of_program: bool
) -> Widths | None:
    """The widths of the points, given by either name; None: all have the same.

    Raises:
        SettingsError: both give them, or they are those of a problem.
    """
    name, given = "cores_per_trial", cores_per_trial
    if _is_width(cores):
        if cores_per_trial != 1:
            raise SettingsError(
                f"cores={cores!r} and cores_per_trial={cores_per_trial!r} mean the same: give one"
            )
        name, given = "cores", cores
    widths = read_widths(given, name, topology)
    if widths and not of_program:
        raise SettingsError(
            f"{name}={given!r}: all points of a problem have the same width: give a number; a "
            "width for each point goes with a program"
        )
    return widths
