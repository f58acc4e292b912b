import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.capacity.limits import Throttling, cpu_limit_millicores, cpu_throttling, memory_limit_bytes

MIB = 1024 * 1024
NO_V1_LIMIT = "9223372036854771712\n"

Recorder = Callable[[dict[str, str]], Path]


@pytest.fixture
def recorded(tmp_path: Path) -> Recorder:
    """Write the files of a machine, by path, and return the folder they are in."""

    def record(files: dict[str, str]) -> Path:
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path

    return record


def own_cpus() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def own_memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class TestCgroupV2:
    def test_a_pod_with_a_private_namespace_reads_its_limits_at_the_root(self, recorded: Recorder) -> None:
        root = recorded(
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/cpu.max": "150000 100000\n",
                "sys/fs/cgroup/memory.max": f"{512 * MIB}\n",
            }
        )
        cpu, memory = cpu_limit_millicores(root=root), memory_limit_bytes(root=root)
        assert (cpu.value, cpu.source) == (1500, f"{root}/sys/fs/cgroup/cpu.max")
        assert (memory.value, memory.source) == (512 * MIB, f"{root}/sys/fs/cgroup/memory.max")

    def test_the_tightest_of_nested_groups_binds(self, recorded: Recorder) -> None:
        root = recorded(
            {
                "proc/self/cgroup": "0::/kubepods.slice/pod1.slice/api.scope\n",
                "sys/fs/cgroup/kubepods.slice/cpu.max": "max 100000\n",
                "sys/fs/cgroup/kubepods.slice/memory.max": f"{4096 * MIB}\n",
                "sys/fs/cgroup/kubepods.slice/pod1.slice/cpu.max": "85000 50000\n",
                "sys/fs/cgroup/kubepods.slice/pod1.slice/memory.max": f"{300 * MIB}\n",
                "sys/fs/cgroup/kubepods.slice/pod1.slice/api.scope/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/kubepods.slice/pod1.slice/api.scope/memory.max": "max\n",
            }
        )
        cpu, memory = cpu_limit_millicores(root=root), memory_limit_bytes(root=root)
        assert (cpu.value, cpu.source) == (1700, f"{root}/sys/fs/cgroup/kubepods.slice/pod1.slice/cpu.max")
        assert (memory.value, memory.source) == (300 * MIB, f"{root}/sys/fs/cgroup/kubepods.slice/pod1.slice/memory.max")

    def test_a_limit_of_a_neighbouring_group_does_not_count(self, recorded: Recorder) -> None:
        root = recorded(
            {
                "proc/self/cgroup": "0::/ours\n",
                "sys/fs/cgroup/ours/cpu.max": "330000 100000\n",
                "sys/fs/cgroup/theirs/cpu.max": "10000 100000\n",
            }
        )
        assert cpu_limit_millicores(root=root).value == 3300

    def test_a_path_that_is_not_mounted_falls_back_to_the_mount_s_root(self, recorded: Recorder) -> None:
        root = recorded({"proc/self/cgroup": "0::/system.slice/docker-4f5c.scope\n", "sys/fs/cgroup/cpu.max": "170000 100000\n"})
        assert cpu_limit_millicores(root=root).value == 1700

    def test_a_path_that_leaves_the_namespace_falls_back_to_its_root(self, recorded: Recorder) -> None:
        root = recorded(
            {
                "proc/self/cgroup": "0::/../neighbour\n",
                "sys/fs/cgroup/cpu.max": "170000 100000\n",
                "sys/fs/cgroup/neighbour/cpu.max": "100000 100000\n",
                "sys/fs/neighbour/cpu.max": "50000 100000\n",
            }
        )
        assert cpu_limit_millicores(root=root).value == 1700

    def test_a_missing_list_of_groups_still_finds_the_limits_at_the_root(self, recorded: Recorder) -> None:
        root = recorded({"sys/fs/cgroup/cpu.max": "170000 100000\n", "sys/fs/cgroup/memory.max": f"{256 * MIB}\n"})
        assert cpu_limit_millicores(root=root).value == 1700
        assert memory_limit_bytes(root=root).value == 256 * MIB

    def test_a_fraction_of_a_core_is_kept_and_rounded_down_but_never_to_zero(self, recorded: Recorder) -> None:
        assert cpu_limit_millicores(root=recorded({"sys/fs/cgroup/cpu.max": "33333 100000"})).value == 333
        assert cpu_limit_millicores(root=recorded({"sys/fs/cgroup/cpu.max": "1000 10000000"})).value == 1

    def test_max_means_no_limit(self, recorded: Recorder) -> None:
        root = recorded({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"})
        assert cpu_limit_millicores(root=root).value == 1000 * own_cpus()
        assert memory_limit_bytes(root=root).value == own_memory_bytes()


class TestCgroupV1:
    DOCKER = "11:memory:/docker/4f5c\n7:cpu,cpuacct:/docker/4f5c\n3:cpuset:/docker/4f5c\n1:name=systemd:/docker/4f5c\n"

    def test_a_container_reads_its_limits_at_the_mount_s_root(self, recorded: Recorder) -> None:
        root = recorded(
            {
                "proc/self/cgroup": self.DOCKER,
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{512 * MIB}\n",
            }
        )
        cpu, memory = cpu_limit_millicores(root=root), memory_limit_bytes(root=root)
        assert (cpu.value, cpu.source) == (2500, f"{root}/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us")
        assert (memory.value, memory.source) == (512 * MIB, f"{root}/sys/fs/cgroup/memory/memory.limit_in_bytes")

    def test_the_tightest_of_nested_groups_binds(self, recorded: Recorder) -> None:
        root = recorded(
            {
                "proc/self/cgroup": self.DOCKER,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us": "85000\n",
                "sys/fs/cgroup/cpu/docker/cpu.cfs_period_us": "50000\n",
                "sys/fs/cgroup/cpu/docker/4f5c/cpu.cfs_quota_us": "800000\n",
                "sys/fs/cgroup/cpu/docker/4f5c/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": NO_V1_LIMIT,
                "sys/fs/cgroup/memory/docker/memory.limit_in_bytes": f"{1024 * MIB}\n",
                "sys/fs/cgroup/memory/docker/4f5c/memory.limit_in_bytes": f"{700 * MIB}\n",
            }
        )
        assert cpu_limit_millicores(root=root).value == 1700
        assert memory_limit_bytes(root=root).value == 700 * MIB

    def test_each_controller_has_a_path_of_its_own(self, recorded: Recorder) -> None:
        root = recorded(
            {
                "proc/self/cgroup": "4:memory:/jobs\n1:cpu:/\n0::/\n",
                "sys/fs/cgroup/memory/jobs/memory.limit_in_bytes": f"{128 * MIB}\n",
                "sys/fs/cgroup/cpu/jobs/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/jobs/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "170000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            }
        )
        assert memory_limit_bytes(root=root).value == 128 * MIB
        assert cpu_limit_millicores(root=root).value == 1700

    def test_minus_one_and_huge_values_mean_no_limit(self, recorded: Recorder) -> None:
        root = recorded(
            {
                "proc/self/cgroup": self.DOCKER,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": NO_V1_LIMIT,
            }
        )
        assert cpu_limit_millicores(root=root).value == 1000 * own_cpus()
        assert memory_limit_bytes(root=root).value == own_memory_bytes()


class TestThrottling:
    def test_is_read_where_the_quota_is_even_above_one_s_own_group(self, recorded: Recorder) -> None:
        root = recorded(
            {
                "proc/self/cgroup": "0::/pod1.slice/api.scope\n",
                "sys/fs/cgroup/pod1.slice/cpu.stat": "usage_usec 9\nnr_periods 40\nnr_throttled 7\nthrottled_usec 250000\n",
                "sys/fs/cgroup/pod1.slice/api.scope/cpu.stat": "usage_usec 9\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
            }
        )
        assert cpu_throttling(root=root) == Throttling(periods=7, seconds=0.25)

    def test_of_v1_is_told_in_nanoseconds(self, recorded: Recorder) -> None:
        files = {
            "proc/self/cgroup": "4:cpu,cpuacct:/\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.stat": "nr_throttled 3\nthrottled_time 1500000000\n",
        }
        assert cpu_throttling(root=recorded(files)) == Throttling(periods=3, seconds=1.5)

    @pytest.mark.parametrize("text", ["", "usage_usec 9\n", "nr_throttled many\n"])
    def test_is_unknown_where_nothing_is_told(self, recorded: Recorder, text: str) -> None:
        assert cpu_throttling(root=recorded({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.stat": text})) is None


class TestOverride:
    @pytest.mark.parametrize(
        ("text", "millicores"), [("2", 2000), ("0.5", 500), ("1500m", 1500), (".25", 250), ("1.", 1000), ("1k", 1_000_000)]
    )
    def test_cpu_is_written_as_kubernetes_writes_it(self, text: str, millicores: int) -> None:
        limit = cpu_limit_millicores(text)
        assert (limit.value, limit.source) == (millicores, f"APP_CPU_LIMIT={text}")

    @pytest.mark.parametrize(
        ("text", "size_bytes"), [("512Mi", 512 * MIB), ("1.5Gi", 1536 * MIB), ("1G", 10**9), ("128974848", 128974848), ("64Ki", 65536)]
    )
    def test_memory_is_written_as_kubernetes_writes_it(self, text: str, size_bytes: int) -> None:
        limit = memory_limit_bytes(text)
        assert (limit.value, limit.source) == (size_bytes, f"given as {text}")

    def test_it_wins_over_the_cgroup(self, recorded: Recorder) -> None:
        root = recorded({"sys/fs/cgroup/cpu.max": "100000 100000", "sys/fs/cgroup/memory.max": f"{MIB}"})
        assert cpu_limit_millicores("3", root=root).value == 3000
        assert memory_limit_bytes("1Gi", root=root).value == 1024 * MIB

    @pytest.mark.parametrize("text", ["", "two", "-1", "0", "0.0001", "1,5", "2 cores", "1e3", "1_000", "٢", "nan", "inf", "1ki"])
    def test_anything_else_is_refused_with_the_variable_and_an_example(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"APP_CPU_LIMIT is .*for example 2, 0\.5 or 1500m"):
            cpu_limit_millicores(text)

    def test_a_wrong_memory_limit_is_named_for_there_is_no_variable(self) -> None:
        with pytest.raises(ValueError, match=r"the memory limit is '512MB'.*512Mi"):
            memory_limit_bytes("512MB")


class TestFallback:
    @pytest.mark.parametrize(
        "text", ["", "\n", "max", "abc 100000", "100000", "100000 0", "0 100000", "-5 100000", "1 2 3", "9" * 5000 + " 1", "\x00 \x00"]
    )
    def test_a_garbled_file_is_ignored(self, recorded: Recorder, text: str) -> None:
        root = recorded({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": text, "sys/fs/cgroup/memory.max": f"x{text}"})
        assert cpu_limit_millicores(root=root).value == 1000 * own_cpus()
        assert memory_limit_bytes(root=root).value == own_memory_bytes()

    def test_a_garbled_group_does_not_hide_the_one_around_it(self, recorded: Recorder) -> None:
        root = recorded(
            {"proc/self/cgroup": "0::/pod\n", "sys/fs/cgroup/pod/cpu.max": "what?", "sys/fs/cgroup/cpu.max": "70000 100000\n"},
        )
        assert cpu_limit_millicores(root=root).value == 700

    def test_a_quota_without_a_period_is_ignored(self, recorded: Recorder) -> None:
        root = recorded({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n"})
        assert cpu_limit_millicores(root=root).value == 1000 * own_cpus()

    def test_a_machine_without_cgroups_counts_its_cpus_and_its_memory(self, recorded: Recorder) -> None:
        root = recorded({})
        cpu, memory = cpu_limit_millicores(root=root), memory_limit_bytes(root=root)
        assert (cpu.value, cpu.source) == (1000 * own_cpus(), "CPU affinity" if sys.platform == "linux" else "CPU count")
        assert (memory.value, memory.source) == (own_memory_bytes(), "physical memory")

    # The folder is shared by all examples on purpose: every example writes all files that are read.
    @settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(groups=st.binary(max_size=60) | st.from_regex(rb"([0-9]:(cpu|memory|):/[^\n]{0,9}\n){1,3}"), limit=st.binary(max_size=30))
    def test_no_bytes_in_these_files_can_stop_a_pod(self, recorded: Recorder, groups: bytes, limit: bytes) -> None:
        root = recorded({})
        for name, content in {"proc/self/cgroup": groups, "sys/fs/cgroup/cpu.max": limit, "sys/fs/cgroup/memory.max": limit}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        assert cpu_limit_millicores(root=root).value > 0
        assert memory_limit_bytes(root=root).value > 0


def test_this_machine_has_limits_that_it_can_hold() -> None:
    cpu, memory = cpu_limit_millicores(), memory_limit_bytes()
    assert 0 < cpu.value <= 1000 * (os.cpu_count() or 1)
    assert 0 < memory.value <= own_memory_bytes()
    assert cpu.source
    assert memory.source
