"""An attribute of the user's, which the kernel reads only when mounted with userxattr."""

# check: opaque
# expect: the directory is not opaque to the kernel
import os


class OverlayWhiteouts:
    def hide_all(self, directory: int, ours: set[str]) -> None:
        os.setxattr(directory, "user.overlay.opaque", b"y")
