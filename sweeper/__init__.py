"""sweeper: which of these is really better?

A local multi-process hyperparameter sweep engine for PyTorch.  `sweep` runs a search, `load` reads
its results; neither torch nor any other heavy library is imported before it is needed.
"""

from typing import TYPE_CHECKING, Any

from sweeper.errors import (
    BackendError,
    DiskError,
    FolderError,
    ParamError,
    ProblemError,
    SelectorError,
    SettingsError,
    StalledError,
    StillRunningError,
    StoppedError,
    SweeperError,
    SweepInterrupted,
    UsageError,
)

if TYPE_CHECKING:
    from sweeper.api.folder import SweepFolder
    from sweeper.api.folder import open as open  # noqa: A004 - as `gzip.open`
    from sweeper.api.sweep import sweep
    from sweeper.cli.own import main
    from sweeper.program.command.command import Command
    from sweeper.program.trial.trial import Trial
    from sweeper.records import KFold, Metric, Parent
    from sweeper.results import PointResult, ProgramPoint
    from sweeper.results.result import SweepResult
    from sweeper.search import (
        Ask,
        Confirm,
        DomainUpdates,
        ExploredGrid,
        FixedSweep,
        Grid,
        Hyperband,
        ManualSearch,
        OptunaSearch,
        ParamSelector,
        Perturb,
        PopulationBasedTraining,
        Race,
        RandomSearch,
        SobolSearch,
        SuccessiveHalving,
        SweepListener,
        TrialResults,
        Truncate,
        TunedComparison,
    )
    from sweeper.search.domain import (
        Alias,
        Choice,
        Constant,
        Domain,
        IntUniform,
        LogIntUniform,
        LogUniform,
        Normal,
        Option,
        Uniform,
    )
    from sweeper.search.explore import Explorer, Launcher
    from sweeper.settings import PRESETS, HyperparameterSettings, StopWhen, get_settings
    from sweeper.store.results.load import load
    from sweeper.summary import Summary

__version__ = "0.1.0"

# Not open: `from sweeper import *` would take Python's own away.
__all__ = [
    "PRESETS",
    "Alias",
    "Ask",
    "BackendError",
    "Choice",
    "Command",
    "Confirm",
    "Constant",
    "DiskError",
    "Domain",
    "DomainUpdates",
    "ExploredGrid",
    "Explorer",
    "FixedSweep",
    "FolderError",
    "Grid",
    "Hyperband",
    "HyperparameterSettings",
    "IntUniform",
    "KFold",
    "Launcher",
    "LogIntUniform",
    "LogUniform",
    "ManualSearch",
    "Metric",
    "Normal",
    "Option",
    "OptunaSearch",
    "ParamError",
    "ParamSelector",
    "Parent",
    "Perturb",
    "PointResult",
    "PopulationBasedTraining",
    "ProblemError",
    "ProgramPoint",
    "Race",
    "RandomSearch",
    "SelectorError",
    "SettingsError",
    "SobolSearch",
    "StalledError",
    "StillRunningError",
    "StopWhen",
    "StoppedError",
    "SuccessiveHalving",
    "Summary",
    "SweepFolder",
    "SweepInterrupted",
    "SweepListener",
    "SweepResult",
    "SweeperError",
    "Trial",
    "TrialResults",
    "Truncate",
    "TunedComparison",
    "Uniform",
    "UsageError",
    "get_settings",
    "load",
    "main",
    "sweep",
]

# Also a worker imports this file, and needs little of these.
_LAZY = {
    "sweep": "sweeper.api.sweep",
    "load": "sweeper.store.results.load",
    "main": "sweeper.cli.own",
    "SweepResult": "sweeper.results.result",
    "Summary": "sweeper.summary",
    **dict.fromkeys(("KFold", "Metric", "Parent"), "sweeper.records"),
    **dict.fromkeys(("PointResult", "ProgramPoint"), "sweeper.results"),
    **dict.fromkeys(
        ("PRESETS", "HyperparameterSettings", "StopWhen", "get_settings"), "sweeper.settings"
    ),
    "Command": "sweeper.program.command.command",
    "Trial": "sweeper.program.trial.trial",
    **dict.fromkeys(("SweepFolder", "open"), "sweeper.api.folder"),
    **dict.fromkeys(("Explorer", "Launcher"), "sweeper.search.explore"),
    **dict.fromkeys(
        (
            "Ask",
            "Confirm",
            "DomainUpdates",
            "ExploredGrid",
            "FixedSweep",
            "Grid",
            "Hyperband",
            "ManualSearch",
            "OptunaSearch",
            "ParamSelector",
            "Perturb",
            "PopulationBasedTraining",
            "Race",
            "RandomSearch",
            "SobolSearch",
            "SuccessiveHalving",
            "SweepListener",
            "TrialResults",
            "Truncate",
            "TunedComparison",
        ),
        "sweeper.search",
    ),
    **dict.fromkeys(
        (
            "Alias",
            "Choice",
            "Constant",
            "Domain",
            "IntUniform",
            "LogIntUniform",
            "LogUniform",
            "Normal",
            "Option",
            "Uniform",
        ),
        "sweeper.search.domain",
    ),
}

_MODULES = ("records", "results", "search", "settings", "summary")
"""Those that `import sweeper` gives without being imported by name."""


def __dir__() -> list[str]:
    return [*__all__, "open"]


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"sweeper.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
