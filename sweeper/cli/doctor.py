"""The `doctor` command: examines this machine."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import sys

from sweeper import __version__
from sweeper.cli.common import FAILED, Command, CoresPerTrial, TotalCores, say
from sweeper.disk.arrays import unpack_arrays
from sweeper.show.doctor import Examined, judge


def doctor(
    total_cores: TotalCores = None,
    cores_per_trial: CoresPerTrial = 1,
) -> Command:
    """Show which cores were found and why, and check that each worker stays on its own."""
    return functools.partial(_doctor, total_cores, cores_per_trial)


_EXAMINE = "sweeper.train.worker.doctor:execute"


def _doctor(total_cores: int | None, width: int) -> int:
    from sweeper.run.backends.local import default_start_method
    from sweeper.run.examine import examine
    from sweeper.run.machine.cores import slots as core_slots
    from sweeper.run.machine.topology import usable_cores

    topology = usable_cores(total_cores)
    slots = core_slots(topology, width)
    versions = [f"{name} {_version(name)}" for name in ("torch", "numpy", "pytorch-ignite")]
    versions = [f"sweeper {__version__}", f"python {platform.python_version()}", *versions]
    say(f"versions      {', '.join(versions)}")
    say(f"cores         {', '.join(map(str, topology.cores))}: {topology.reason}")
    say(f"start method  {default_start_method()}")
    say(f"pinning       {'yes' if topology.pinned else 'no'}")
    sys.stdout.flush()
    all_well = True
    for slot, report in examine(_EXAMINE, width, slots, pinned=topology.pinned).items():
        arrays = unpack_arrays(report.arrays)
        examined = Examined(
            slot=slot,
            cores=slots[slot] if topology.pinned else (),
            threads_promised=width,
            mask=frozenset(arrays["mask"].tolist()),
            threads=int(report.metrics["threads"]),
            ran_on=frozenset(arrays["ran_on"].tolist()),
        )
        line, well = judge(examined)
        all_well &= well
        say(line)
    return 0 if all_well else FAILED


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
