"""Forgets the cpuset."""

# check: cpuset
# expect: Cpus_allowed_list of process \d+ says
from minidock.cgroups.v2 import _or_max, weight
from minidock.spec.runtime import CPU


class V2Cgroup:
    def _limit_cpu(self, cpu: CPU) -> None:
        if cpu.shares:
            self._set("cpu.weight", str(weight(cpu.shares)), "a processor weight")
        if cpu.quota is not None or cpu.period is not None:
            quota = _or_max(cpu.quota if cpu.quota else -1)
            self._set("cpu.max", f"{quota} {cpu.period or 100000}", "a processor limit")
