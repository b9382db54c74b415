"""The usable cores, from made-up facts and small fake trees, and how slots divide them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.errors import SettingsError
from sweeper.run.machine.cores import slots
from sweeper.run.machine.topology import Topology, find_cores, find_unpinned_cores, usable_cores

CORES = [1, 2, 8, 1024]


def machine(
    packages: int, cores: int, threads: int = 1
) -> tuple[dict[int, set[int]], dict[int, int]]:
    """Siblings and packages, numbered as Linux does: first every core, then the second threads."""
    count = packages * cores
    siblings = {
        cpu: {cpu % count + thread * count for thread in range(threads)}
        for cpu in range(count * threads)
    }
    return siblings, {cpu: cpu % count // cores for cpu in siblings}


# -- facts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", CORES)
@pytest.mark.parametrize("threads", [1, 2])
def test_siblings_are_never_counted(cores: int, threads: int) -> None:
    siblings, packages = machine(1, cores, threads)
    topology = find_cores(siblings.keys(), siblings, packages)
    assert topology.cores == tuple(range(cores))
    assert topology.packages == (0,) * cores
    assert topology.pinned


def test_siblings_numbered_next_to_each_other() -> None:
    siblings = {cpu: {cpu // 2 * 2, cpu // 2 * 2 + 1} for cpu in range(8)}
    assert find_cores(range(8), siblings, {}).cores == (0, 2, 4, 6)


def test_a_mask_that_splits_siblings_keeps_the_core_in_its_place() -> None:
    siblings, packages = machine(1, 4, threads=2)
    topology = find_cores({1, 2, 3, 4, 5}, siblings, packages)
    assert topology.cores == (4, 1, 2, 3)  # of core 0, only its second thread is allowed
    assert "5 logical CPUs on 4 physical cores in 1 package" in topology.reason


def test_cores_of_a_package_lie_together_where_numbers_alternate() -> None:
    siblings, _ = machine(1, 6)
    topology = find_cores(range(6), siblings, {cpu: cpu % 2 for cpu in range(6)})
    assert topology.cores == (0, 2, 4, 1, 3, 5)
    assert topology.packages == (0, 0, 0, 1, 1, 1)


def test_without_sibling_facts_every_logical_cpu_counts_and_it_says_so() -> None:
    topology = find_cores({0, 3}, {}, {})
    assert topology.cores == (0, 3)
    assert "each logical CPU counts as a core" in topology.reason


@pytest.mark.parametrize(
    ("quota", "used"), [(0.25, 1), (1.0, 1), (1.99, 1), (2.0, 2), (7.5, 7), (8.0, 8), (64.0, 8)]
)
def test_a_quota_is_rounded_down_to_one_at_least(quota: float, used: int) -> None:
    topology = find_cores(range(8), *machine(1, 8), quota=quota)
    assert topology.cores == tuple(range(used))
    assert f"cgroup quota of {quota:g} CPUs" in topology.reason


@pytest.mark.parametrize(("total_cores", "used"), [(1, 1), (8, 8), (9, 8), (10**6, 8)])
def test_total_cores_bounds(total_cores: int, used: int) -> None:
    topology = find_cores(range(8), *machine(1, 8), total_cores=total_cores)
    assert len(topology.cores) == used
    assert find_unpinned_cores(8, total_cores).cores == topology.cores


@pytest.mark.parametrize(
    ("quota", "total_cores", "bounded"),
    [
        (None, None, "8 cores used, all there are"),
        (2.5, None, "2 cores used, bounded by the cgroup quota of 2.5 CPUs"),
        (None, 1, "1 core used, bounded by total_cores=1"),
        (
            4.0,
            3,
            "3 cores used, bounded by total_cores=3; the cgroup quota of 4 CPUs would allow more",
        ),
        (
            3.0,
            3,
            "3 cores used, bounded by the cgroup quota of 3 CPUs and total_cores=3",
        ),
    ],
)
def test_the_reason_names_what_bounds(
    quota: float | None, total_cores: int | None, bounded: str
) -> None:
    topology = find_cores(range(8), *machine(2, 4), quota=quota, total_cores=total_cores)
    found = "the affinity mask allows 8 logical CPUs on 8 physical cores in 2 packages"
    assert topology.reason == f"{found}; {bounded}"


@pytest.mark.parametrize("total_cores", [0, -1, 1.5, True, "2"])
def test_total_cores_is_a_whole_number_from_one_on(total_cores: int) -> None:
    rule = f"total_cores={total_cores!r}: it must be a whole number, 1 or more"
    with pytest.raises(SettingsError, match=rule):
        usable_cores(total_cores)
    with pytest.raises(SettingsError, match=rule):
        find_unpinned_cores(4, total_cores)


# -- reading --------------------------------------------------------------------------------------


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Callable[[Collection[int]], None]:
    def allow(cpus: Collection[int]) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(cpus), raising=False)

    return allow


def write(root: Path, files: dict[str, str]) -> None:
    for place, text in files.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def write_cpu(root: Path, cpu: int, siblings: str, package: int = 0, old: bool = False) -> None:
    folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
    names = "thread_siblings_list" if old else "core_cpus_list"
    write(root, {f"{folder}/{names}": siblings, f"{folder}/physical_package_id": str(package)})


@pytest.mark.parametrize("old", [False, True])
def test_siblings_and_packages_are_read(
    tmp_path: Path, allow: Callable[[Collection[int]], None], old: bool
) -> None:
    for cpu in range(8):
        write_cpu(tmp_path, cpu, f"{cpu % 4},{cpu % 4 + 4}", cpu % 2, old)
    allow(range(8))
    topology = usable_cores(root=tmp_path)
    assert topology.cores == (0, 2, 1, 3)
    assert topology.packages == (0, 0, 1, 1)
    allow({1, 5, 6})
    assert usable_cores(root=tmp_path).cores == (6, 1)


def test_a_list_of_siblings_with_ranges(
    tmp_path: Path, allow: Callable[[Collection[int]], None]
) -> None:
    for cpu in range(10):
        write_cpu(tmp_path, cpu, "0-3,8-9" if cpu in (0, 1, 2, 3, 8, 9) else "4-7")
    allow(range(10))
    assert usable_cores(root=tmp_path).cores == (0, 4)


def test_an_empty_tree_leaves_the_affinity_mask(
    tmp_path: Path, allow: Callable[[Collection[int]], None]
) -> None:
    allow({2, 5})
    assert usable_cores(root=tmp_path).cores == (2, 5)
    assert usable_cores(1, root=tmp_path).cores == (2,)


V1_UNLIMITED = {
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
}


@pytest.mark.parametrize(
    ("cgroup", "files", "used"),
    [
        pytest.param("0::/", {}, 8, id="v2, no file"),
        pytest.param("0::/", {"sys/fs/cgroup/cpu.max": "max 100000"}, 8, id="v2, no limit"),
        pytest.param("0::/", {"sys/fs/cgroup/cpu.max": "250000 100000"}, 2, id="v2, container"),
        pytest.param("0::/", {"sys/fs/cgroup/cpu.max": "20000 100000"}, 1, id="v2, a fifth"),
        pytest.param(
            "0::/a/b",
            {"sys/fs/cgroup/a/b/cpu.max": "300000 100000", "sys/fs/cgroup/a/cpu.max": "max 1"},
            3,
            id="v2, own group",
        ),
        pytest.param(
            "0::/a/b",
            {
                "sys/fs/cgroup/a/b/cpu.max": "600000 100000",
                "sys/fs/cgroup/a/cpu.max": "20000 10000",
                "sys/fs/cgroup/cpu.max": "500000 100000",
            },
            2,
            id="v2, the smallest on the path wins",
        ),
        pytest.param(
            "0::/a", {"sys/fs/cgroup/other/cpu.max": "100000 100000"}, 8, id="v2, another's group"
        ),
        pytest.param(
            "0::/../x",
            {"sys/fs/cgroup/cpu.max": "400000 100000", "sys/fs/x/cpu.max": "1 1"},
            4,
            id="v2, outside the container's view",
        ),
        pytest.param(
            "4:memory:/m\n2:cpu,cpuacct:/d/e\n0::/",
            {
                "sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_period_us": "50000",
            },
            3,
            id="v1, of the group above",
        ),
        pytest.param("1:cpu:/", V1_UNLIMITED, 8, id="v1, no limit"),
        pytest.param(
            "1:cpu:/docker/1f",
            V1_UNLIMITED | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "500000"},
            5,
            id="v1, container that sees its group as the root",
        ),
        pytest.param(
            "3:cpuset,cpuacct:/c",
            {
                "sys/fs/cgroup/cpuset,cpuacct/c/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpuset,cpuacct/c/cpu.cfs_period_us": "100000",
            },
            8,
            id="v1, not the cpu controller",
        ),
        pytest.param(
            "1:cpu:/\n0::/u",
            V1_UNLIMITED | {"sys/fs/cgroup/unified/u/cpu.max": "200000 100000"},
            2,
            id="both versions",
        ),
        pytest.param("nonsense\n0::/", {"sys/fs/cgroup/cpu.max": "0 0"}, 8, id="nonsense"),
    ],
)
def test_the_quota_is_read(
    tmp_path: Path,
    allow: Callable[[Collection[int]], None],
    cgroup: str,
    files: dict[str, str],
    used: int,
) -> None:
    write(tmp_path, files | {"proc/self/cgroup": cgroup})
    allow(range(8))
    assert len(usable_cores(root=tmp_path).cores) == used


def test_on_other_systems_it_runs_unpinned_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 8 if logical else 4)
    topology = usable_cores(root=tmp_path)
    assert (topology.cores, topology.pinned) == ((0, 1, 2, 3), False)
    assert "unpinned" in topology.reason
    assert usable_cores(3, root=tmp_path).cores == (0, 1, 2)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs an affinity mask")
def test_this_machine() -> None:
    topology = usable_cores()
    assert topology.pinned
    assert 1 <= len(topology.cores) <= len(os.sched_getaffinity(0))
    assert set(topology.cores) <= os.sched_getaffinity(0)


# -- slots ----------------------------------------------------------------------------------------


def packed(*packages: int) -> Topology:
    """A machine whose packages have so many cores."""
    places = tuple(package for package, count in enumerate(packages) for _ in range(count))
    return Topology(tuple(range(len(places))), True, "as made up", places)


@pytest.mark.parametrize(
    ("cores", "width"), [(1, 1), (2, 1), (2, 2), (8, 1), (8, 3), (8, 8), (1024, 2), (1024, 3)]
)
def test_slots_are_sets_of_neighbours(cores: int, width: int) -> None:
    found = slots(packed(cores), width)
    assert found == tuple(
        tuple(range(first, first + width)) for first in range(0, cores - width + 1, width)
    )


def test_a_slot_stays_in_its_package_where_that_costs_no_slot() -> None:
    assert slots(packed(4, 4), 2) == ((0, 1), (2, 3), (4, 5), (6, 7))
    assert slots(packed(3, 4), 2) == ((0, 1), (3, 4), (5, 6))  # core 2 is left over
    assert slots(packed(3, 5), 2) == ((0, 1), (2, 7), (3, 4), (5, 6))


def test_a_topology_without_packages_is_one_package() -> None:
    assert slots(Topology((4, 6, 8), False, ""), 3) == ((4, 6, 8),)


@pytest.mark.parametrize("width", [0, -1, 3])
def test_a_width_that_does_not_fit_is_refused(width: int) -> None:
    with pytest.raises(SettingsError) as caught:
        slots(packed(2), width)
    assert f"cores_per_trial={width}" in str(caught.value)
    assert "from 1 to 2" in str(caught.value)
    assert "as made up" in str(caught.value)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(packages=st.lists(st.integers(1, 9), min_size=1, max_size=5), width=st.integers(1, 9))
def test_no_slot_is_lost_no_core_shared_and_few_slots_straddle(
    packages: list[int], width: int
) -> None:
    topology = packed(*packages)
    if width > len(topology.cores):
        return
    found = slots(topology, width)
    assert len(found) == len(topology.cores) // width
    assert all(len(set(cores)) == width for cores in found)
    assert len({core for cores in found for core in cores}) == len(found) * width
    package_of = dict(zip(topology.cores, topology.packages, strict=True))
    whole = sum(len({package_of[core] for core in cores}) == 1 for cores in found)
    assert whole >= sum(count // width for count in packages)
