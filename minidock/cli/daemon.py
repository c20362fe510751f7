"""``minidock daemon``.

**Interface:** :func:`run`.
"""

import os

from minidock.cli.flags import Flag, Usage, need, parse

FLAGS = [
    Flag("ready-fd", "", "int", "", -1),
    Flag("default-registry", "", "string", "Host of names without a registry"),
    Flag(
        "insecure-registry",
        "",
        "list",
        "Registry (host or network) to speak to without TLS or certificates",
    ),
    Flag("store-quota", "", "string", "What images may take of the disk (e.g. 20G; 0: no limit)"),
    Flag(
        "storage-driver",
        "s",
        "string",
        "Storage driver to use (overlay, btrfs, fuse-overlayfs, devicemapper, vfs)",
    ),
    Flag("storage-opt", "", "list", "Storage driver options"),
    Flag("userns-remap", "", "string", "User/Group setting for user namespaces"),
]

HELP = {"daemon": Usage("daemon", "[OPTIONS]", "Run the MiniDock daemon in the foreground", FLAGS)}


# %% daemon
def run(arguments: list[str]) -> int:
    """``minidock daemon``: serves until it is told to end."""
    values, rest = parse(arguments, FLAGS)
    need(rest, "daemon", 0, 0)
    from minidock.api.daemon import serve
    from minidock.images.quota import size_of
    from minidock.paths import Paths
    from minidock.registry.settings import Settings

    ready = values["ready-fd"] if values["ready-fd"] >= 0 else None
    registries = Settings.from_environment(values["default-registry"], values["insecure-registry"])
    driver, users = (
        values["storage-driver"] or os.environ.get("MINIDOCK_STORAGE_DRIVER"),
        values["userns-remap"],
    )
    quota = size_of(values["store-quota"] or os.environ.get("MINIDOCK_STORE_QUOTA", ""))
    serve(Paths.from_environment(), ready, driver, registries, users, quota, values["storage-opt"])
    return 0
