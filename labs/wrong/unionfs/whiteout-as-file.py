"""Keeps the tar's form of a whiteout, an empty file, which the kernel does not know."""

# check: deleted
# expect: /a to be gone
import os


class OverlayWhiteouts:
    def remove(self, directory: int, name: str) -> None:
        os.close(os.open(f".wh.{name}", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=directory))
