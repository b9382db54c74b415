"""Arguments by the names that they had in older tools: accepted with a warning, or refused."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from sweeper.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")


def accepts_earlier(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: maps each earlier argument name to the current one.

    The function raises `UsageError` if an argument is given by both names.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def accepting(*args: P.args, **kwargs: P.kwargs) -> R:
            given: dict[str, Any] = kwargs
            for earlier in names.keys() & given.keys():
                now = names[earlier]
                if now in given:
                    raise UsageError(f"{earlier} and {now} are the same argument: give {now}")
                warnings.warn(f"{earlier}= is called {now}= here", DeprecationWarning, stacklevel=2)
                given[now] = given.pop(earlier)
            return function(*args, **kwargs)

        return accepting

    return decorate


def refuses_earlier(**instead: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: refuses arguments of older tools that nothing here stands for.

    The function raises `UsageError` with what to write instead, by argument.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def refusing(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in instead.keys() & kwargs.keys():
                raise UsageError(f"{name}={kwargs[name]!r:.80}: {instead[name]}")
            return function(*args, **kwargs)

        return refusing

    return decorate


_OF_WORKERS = (
    "give total_cores=, the number of physical cores to use; what differs between points is a "
    "parameter of theirs, and what each worker builds once belongs into the setup of a class"
)
_OF_OUTPUT = "give redirect='none', 'sweep', 'trial' or 'both', for standard output and error alike"
_OF_ENVIRONMENT = "give record_environment=True, which is the default of a program"
_OF_GPU_CHECKS = "give device_wait=, for how many seconds to wait for min_free_memory="

OF_RESEARCH = {
    "n_reps": "give trials=, the number of trials of each point",
    "n_configs": "give points= to a selector: RandomSearch(domain, points=20, trials=3)",
    "repeat_each": "give it to a selector: Grid(domain, trials=3, repeat_each=4)",
    "n_iters": "give budget=, the number of iterations; without it a generator ends by itself",
    "workers": _OF_WORKERS,
    "branches": "points share what the setup of a class built, however many agree on its "
    "parameters: write them as points, Domain(width=[8, 64]) * Domain(head=['a', 'b']), and sweep "
    "a class with setup(self, width) and run(self, head)",
    "name": "give folder=",
    "bar": "give progress=",
    "dump_results": "give keep=False for a sweep that leaves no files",
    "parallel": "give backend='inline' to run everything in this process",
    "debug": "give backend='inline', and stop_after_failures=1 to stop at the first failure",
    "finalize": "give on_error='record' for a trial that ends at an exception and keeps what it "
    "yielded before",
    "redirect_stdout": _OF_OUTPUT,
    "redirect_stderr": _OF_OUTPUT,
    "git_meta": _OF_ENVIRONMENT,
    "env_meta": _OF_ENVIRONMENT,
    "loglevel": "leave it out: a trial writes its log by trial.log(text)",
    "create_id_prefix": "leave it out: points are numbered in the order of the domain",
    "memory_ratio": "give min_free_memory=, in bytes or such as '4 GiB'",
    "n_gpu_checks": _OF_GPU_CHECKS,
    "gpu_check_delay": _OF_GPU_CHECKS,
}
"""Arguments of batchflow's `Research` that `sweep` has not, with what to write instead."""
