"""Devices: how they are found, dealt out and waited for."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import sweeper
from simulation import outcome, trials
from sweeper import cli
from sweeper.errors import BackendError, SettingsError
from sweeper.records import Died, Failure, Job, Outcome, Recorded, Result, Start, Target
from sweeper.run.backends.local import LocalBackend
from sweeper.run.dispatch import dispatch
from sweeper.run.machine.dealing import DevicePool
from sweeper.run.machine.devices import FILE, Devices, DeviceWatch, probe, read_bytes, read_devices
from sweeper.run.processes.signals import Interrupts
from sweeper.run.scheduler import Scheduler
from sweeper.search import FixedSweep
from sweeper.study import Study
from sweeper.testing.toy import ToyBackend, ToyPlan
from sweeper.testing.toy import point_of as toy_point

GPUS = """\
0, GPU-aaa, 20000, 24576
1, GPU-bbb, 1000, 24576
2, GPU-ccc, 80000, 81920
"""


@pytest.fixture
def gpus(tmp_path, monkeypatch) -> Path:
    """The file that stands in for nvidia-smi."""
    file = tmp_path / "gpus.csv"
    file.write_text(GPUS)
    monkeypatch.setenv(FILE, str(file))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return file


# -- finding --------------------------------------------------------------------------------------


def test_gpus_are_named_as_this_process_sees_them(gpus, monkeypatch) -> None:
    assert [(one.name, one.id) for one in probe()] == [
        ("cuda:0", "GPU-aaa"),
        ("cuda:1", "GPU-bbb"),
        ("cuda:2", "GPU-ccc"),
    ]
    assert (probe()[0].free, probe()[0].total) == (20000 << 20, 24576 << 20)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-c,0")
    assert [(one.name, one.id) for one in probe()] == [("cuda:0", "GPU-ccc"), ("cuda:1", "GPU-aaa")]


@pytest.mark.parametrize(("visible", "count"), [("0,7,1", 1), ("0,0", 1), ("1, 2", 2)])
def test_as_in_cuda_the_first_that_does_not_exist_ends_the_list(
    gpus, monkeypatch, visible, count
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert len(probe()) == count


@pytest.mark.parametrize("visible", ["", "-1", "GPU-x"])
def test_a_process_that_may_use_none_is_told_so(gpus, monkeypatch, visible) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(SettingsError, match=f"lists 3, and CUDA_VISIBLE_DEVICES='{visible}' names"):
        probe()


def test_without_a_gpu_the_error_says_how_it_was_looked_for(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(FILE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="devices=1: no GPU was found: there is no nvidia-smi"):
        read_devices(1)
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho the driver is not loaded\nexit 9\n")
    smi.chmod(0o755)
    with pytest.raises(SettingsError, match="ended with code 9: the driver is not loaded"):
        read_devices(1)
    smi.write_text('#!/bin/sh\necho "0, GPU-1, 10, 20"\n')
    assert [one.id for one in probe()] == ["GPU-1"]


@pytest.mark.parametrize(
    ("text", "words"), [("", "lists none"), ("0, GPU-1, ?, 3", "'0, GPU-1, .?, 3', which is not")]
)
def test_a_list_that_cannot_be_read(gpus, text, words) -> None:
    gpus.write_text(text)
    with pytest.raises(SettingsError, match=words):
        probe()
    gpus.unlink()
    with pytest.raises(SettingsError, match=f"{FILE}='.*' does not exist"):
        probe()


# -- what a sweep is told -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        (2, ["GPU-aaa", "GPU-bbb"]),
        (["cuda:2", "cuda:0"], ["GPU-ccc", "GPU-aaa"]),
        ((1,), ["GPU-bbb"]),
    ],
)
def test_devices_are_given_by_number_or_by_name(gpus, given, ids) -> None:
    found = read_devices(given)
    assert found is not None
    assert [one.id for one in found.used] == ids


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"devices": 4}, "devices=4: it must be a number from 1 to 3, .*: cuda:0, cuda:1, cuda:2"),
        ({"devices": 0}, "devices=0: it must be a number from 1 to 3"),
        ({"devices": True}, "devices=True: give a number of GPUs, or a list"),
        ({"devices": "cuda:0"}, "devices='cuda:0': give a number of GPUs, or a list"),
        ({"devices": ["cuda:3"]}, "there is no 'cuda:3': choose from cuda:0, cuda:1, cuda:2"),
        ({"devices": []}, "name each device once, at least one"),
        ({"devices": [0, "cuda:0"]}, "name each device once"),
        ({"devices": 2, "per_device": 0}, "per_device=0: it must be a whole number, 1 or more"),
        ({"devices": 2, "devices_per_trial": 3}, "devices_per_trial=3: .* from 1 to 2"),
        ({"devices": 2, "min_free_memory": "4 Gib"}, "min_free_memory='4 Gib': give a number of"),
        (
            {"devices": 2, "min_free_memory": "30 GiB"},
            "min_free_memory='30 GiB': cuda:0 has 24 GiB",
        ),
        ({"devices": 2, "device_wait": math.inf}, "device_wait=inf: it must be a finite number"),
        ({"devices": None, "per_device": 2}, "per_device=2 means nothing without devices="),
    ],
)
def test_what_cannot_be_dealt_out_is_refused(gpus, arguments, words) -> None:
    with pytest.raises(SettingsError, match=words):
        read_devices(**arguments)


@pytest.mark.parametrize(
    ("given", "amount"), [(7, 7), ("1.5 GiB", 3 << 29), ("2MB", 2_000_000), ("0 B", 0)]
)
def test_amounts_of_memory(given, amount) -> None:
    assert read_bytes(given, "min_free_memory") == amount


# -- dealing out ----------------------------------------------------------------------------------


def dealt(starts) -> list[tuple[int, tuple[str, ...]]]:
    return [(start.slot, start.devices) for start in starts]


def test_no_more_jobs_run_than_have_devices() -> None:
    scheduler = Scheduler(8, devices=DevicePool(["a", "b"]))
    scheduler.add([trials(0, 9)])
    assert dealt(scheduler.starts()) == [(0, ("a",)), (1, ("b",))]
    scheduler.react([Result(1, outcome(scheduler.running[1], 1))], 1.0)
    assert dealt(scheduler.starts()) == [(1, ("b",))]


def test_a_device_may_be_shared_and_a_job_may_have_several() -> None:
    shared = Scheduler(8, devices=DevicePool(["a", "b"], per_device=2))
    shared.add([trials(0, 9)])
    assert dealt(shared.starts()) == [(0, ("a",)), (1, ("b",)), (2, ("a",)), (3, ("b",))]
    several = Scheduler(8, devices=DevicePool(["a", "b", "c", "d", "e"], per_job=2))
    several.add([trials(0, 9)])
    assert dealt(several.starts()) == [(0, ("a", "b")), (1, ("c", "d"))]


def test_a_slot_gets_the_devices_that_it_had_so_that_its_worker_stays() -> None:
    scheduler = Scheduler(2, devices=DevicePool(["a", "b", "c"]))
    scheduler.add([trials(0, 9)])
    scheduler.starts()
    for slot in (1, 0):
        scheduler.react([Result(slot, outcome(scheduler.running[slot], slot))], 1.0)
    assert dealt(scheduler.starts()) == [(0, ("a",)), (1, ("b",))]


def test_a_slot_gets_what_it_had_though_another_comes_first() -> None:
    pool = DevicePool(["a", "b"])
    assert (pool.take(0), pool.take(1)) == (("a",), ("b",))
    for one in "ab":
        pool.give_back([one])
    assert pool.take(1) == ("b",)


def test_the_devices_of_a_dead_worker_are_free_again() -> None:
    scheduler = Scheduler(2, devices=DevicePool(["a"]))
    scheduler.add([trials(0, 9)])
    scheduler.starts()
    scheduler.react([Died(0, Failure("crash", "gone"))], 1.0)
    assert dealt(scheduler.starts()) == [(0, ("a",))]


# -- waiting for memory ---------------------------------------------------------------------------


def watch(**given) -> tuple[DeviceWatch, DevicePool, Devices]:
    devices = read_devices(2, min_free_memory="2 GiB", **given)
    assert devices is not None
    pool = devices.pool()
    return DeviceWatch(devices, pool), pool, devices


def test_a_device_without_enough_free_memory_is_not_dealt_out(gpus) -> None:
    looking, pool, _ = watch()
    looking.look(0.0, queued=1)
    assert pool.take(0) == ("GPU-aaa",)
    assert not pool.may_take
    looking.look(0.5, queued=1)
    assert looking.waiting
    gpus.write_text(GPUS.replace(" 1000,", " 9000,"))
    looking.look(2.0, queued=1)
    assert (looking.waiting, pool.may_take) == (False, True)


def test_it_is_an_error_only_once_no_trial_has_a_device(gpus) -> None:
    looking, pool, _ = watch(device_wait=5)
    looking.look(0.0, queued=1)
    taken = pool.take(0)
    gpus.write_text(GPUS.replace("20000", "30"))
    for ticks in (1.0, 100.0):
        looking.look(ticks, queued=1)
    pool.give_back(taken)
    looking.look(102.0, queued=1)
    words = "min_free_memory=2 GiB for device_wait=5 s: cuda:0 has 30 MiB free, cuda:1 has 1000 MiB"
    with pytest.raises(BackendError, match=words):
        looking.look(107.0, queued=1)


class Filling(ToyBackend):
    """Workers beside which somebody else frees a device's memory, some seconds after the start."""

    file: Path

    def wait(self, timeout, interrupts):
        if self.ticks == 3:
            self.file.write_text(GPUS)
        return super().wait(timeout, interrupts)


def test_a_sweep_waits_until_a_device_has_room(gpus) -> None:
    gpus.write_text(GPUS.replace("20000", "30"))
    looking, pool, _ = watch(device_wait=10)
    backend = Filling()
    backend.file = gpus
    study = Study(
        FixedSweep([((1,), 3)]), ToyPlan(), toy_point, most_cores=4, slots=2, recorded=Recorded()
    )
    study.begin()
    scheduler = Scheduler(2, devices=pool)
    undisturbed = SimpleNamespace(signal=None)
    clocks = (backend.clock, backend.clock)
    for events in dispatch(study, scheduler, backend, undisturbed, *clocks, looking):
        study.tell(events)
    study.check_stalled()
    assert study.progress().trials_done == 3
    assert backend.ticks > 3


def test_nothing_is_waited_for_where_nothing_is_queued(gpus) -> None:
    gpus.write_text("0, GPU-aaa, 1, 24576\n1, GPU-bbb, 1, 24576\n")
    looking, _, _ = watch(device_wait=0)
    looking.look(0.0, queued=0)
    assert not looking.waiting


# -- workers --------------------------------------------------------------------------------------


def tell(_context, _fd, job):
    """What a worker sees."""
    seen = float("abc".index(os.environ["CUDA_VISIBLE_DEVICES"][-1]))
    yield Outcome(
        job.point, job.stage, job.numbers[0], 0.0, 1.0, {"seen": seen, "pid": os.getpid()}
    )


def test_a_worker_whose_devices_change_is_replaced(tmp_path) -> None:
    target = Target("test_devices:tell")
    backend = LocalBackend([()], pinned=False, target=target, logs=tmp_path)
    found = []
    try:
        with Interrupts() as interrupts:
            for number, device in enumerate("aabb"):
                job = Job(number, "p", "trial", "trial", (number,))
                backend.start([Start(job, 0, devices=(f"GPU-{device}",))])
                (message,) = backend.wait(100.0, interrupts)
                found.append(message.outcome.metrics)
    finally:
        backend.close()
    assert [one["seen"] for one in found] == [0.0, 0.0, 1.0, 1.0]
    pids = [one["pid"] for one in found]
    assert (pids[0] == pids[1], pids[1] == pids[2], pids[2] == pids[3]) == (True, False, True)


# -- sweeps ---------------------------------------------------------------------------------------


def visible(*, x, trial):
    """What a trial sees of devices."""
    del x
    seen = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    return {"devices": len(trial.devices), "first": "abc".index(seen[0][-1]), "pid": os.getpid()}


def run(folder: Path, **given):
    grid = sweeper.Grid(trials=4, x=[1, 2])
    return sweeper.sweep(visible, grid, folder=folder, progress=False, total_cores=2, **given)


def test_trials_see_their_own_devices_alone(gpus, tmp_path) -> None:
    frame = run(tmp_path / "one", devices=["cuda:2"]).to_dataframe()
    assert set(frame["first"]) == {2}
    assert frame["pid"].nunique() == 1  # one device: one trial at a time, in one worker
    frame = run(tmp_path / "both", devices=2, devices_per_trial=2).to_dataframe()
    assert set(frame["devices"]) == {2}
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_sweep_without_room_on_any_device_ends_and_can_go_on(gpus, tmp_path) -> None:
    gpus.write_text("0, GPU-aaa, 5, 24576\n")
    with pytest.raises(BackendError, match="cuda:0 has 5 MiB free; what is finished is kept"):
        run(tmp_path, devices=1, min_free_memory="1 GiB", device_wait=0)
    gpus.write_text("0, GPU-aaa, 5000, 24576\n")
    results = run(tmp_path, devices=1, min_free_memory="1 GiB", device_wait=0)
    assert len(results.to_dataframe()) == 8


def test_the_command_line_deals_out_devices_and_widths(gpus, tmp_path) -> None:
    module = tmp_path / "seen.py"
    module.write_text(
        "import os\n"
        "def objective(w, *, trial):\n"
        "    seen = os.environ['CUDA_VISIBLE_DEVICES'] == 'GPU-ccc'\n"
        "    return {'cores': trial.cores, 'seen': seen}\n"
    )
    told = (
        "--grid w=1 --trials 1 --devices cuda:2 --cores-per-trial w --min-free-memory 2GiB --quiet"
    )
    arguments = ["run", f"{module}:objective", *told.split(), "--folder", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        cli.run_and_exit(arguments)
    assert ended.value.code == 0
    frame = sweeper.load(tmp_path / "out").to_dataframe()
    assert (list(frame["cores"]), list(frame["seen"])) == ([1.0], [1.0])


def test_what_has_no_worker_processes_or_is_a_problem_has_no_devices(gpus, tmp_path) -> None:
    with pytest.raises(SettingsError, match="backend='inline' runs trials in this process"):
        run(tmp_path, devices=1, backend="inline")
    with pytest.raises(SettingsError, match="a problem is trained on cores; devices go with a"):
        sweeper.sweep("examples.digits", sweeper.Grid(trials=1, hidden=[2]), devices=1)
