"""``minidock bootstrap``: base images without a registry.

**Interface:** :func:`run`.
"""

import tempfile
from pathlib import Path

from minidock.cli.flags import Flag, Usage, parse
from minidock.client import Client

FLAGS = [Flag("output", "o", "string", "Write the archive here instead of loading it")]

HELP = {
    "bootstrap": Usage(
        "bootstrap",
        "[OPTIONS] [IMAGE...]",
        "Make base images (debian:bookworm, busybox) from Debian packages, and load them",
        FLAGS,
    )
}


# %% bootstrap
def run(arguments: list[str]) -> int:
    """``minidock bootstrap``: all base images, or those named."""
    values, names = parse(arguments, FLAGS)
    from minidock.images import bootstrap

    if values["output"]:
        bootstrap.make((names or ["busybox"])[0], Path(values["output"]))
        return 0
    client = Client.from_environment()
    with tempfile.TemporaryDirectory() as folder:
        for name in names or ["busybox", "debian:bookworm"]:
            archive = Path(folder) / "image.tar"
            bootstrap.make(name, archive)
            client.load(archive)
    return 0
