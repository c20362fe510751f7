"""Forgets workdir=, which an upper directory needs."""

# check: order
# expect: mount\(2\) overlay overlay on .*upperdir=\S+/upper\): Invalid argument
from collections.abc import Sequence
from pathlib import Path

from minidock import steps


class OverlayDriver:
    def mount(self, chains: Sequence[str], container_dir: Path) -> Path:
        target = container_dir / "rootfs"
        for name in ("rootfs", "upper", "work"):
            (container_dir / name).mkdir(mode=0o755, exist_ok=True)
        lower = ":".join(self.directory(chain) for chain in reversed(chains))
        with steps.step("mount the layers") as step:
            self._mount_here(target, f"lowerdir={lower},upperdir={container_dir}/upper")
            step.undo(self.unmount, container_dir)
        return target
