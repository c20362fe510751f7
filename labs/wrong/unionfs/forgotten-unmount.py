"""Registers no undo: a start that fails leaves the mount."""

# check: undone
# expect: the step has registered no undo
from collections.abc import Sequence
from pathlib import Path

from minidock import steps


class OverlayDriver:
    def mount(self, chains: Sequence[str], container_dir: Path) -> Path:
        target = container_dir / "rootfs"
        upper, work = container_dir / "upper", container_dir / "work"
        for path in (target, upper, work):
            path.mkdir(mode=0o755, exist_ok=True)
        lower = ":".join(self.directory(chain) for chain in reversed(chains))
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        with steps.step("mount the layers"):
            self._mount_here(target, options)
        return target
