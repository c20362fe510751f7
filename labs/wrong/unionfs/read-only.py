"""Forgets the container's own layer: the tree can only be read."""

# check: own_layer
# expect: Read-only file system
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
            self._mount_here(target, f"lowerdir={container_dir}/upper:{lower}")
            step.undo(self.unmount, container_dir)
        return target
