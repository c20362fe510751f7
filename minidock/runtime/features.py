"""What this runtime can do, in a form that programs read.

An engine can ask before it writes a configuration: which mount options,
which hooks, which namespaces. The lists here are not written down a second
time; they are the tables by which the runtime works.

**Interface:** :func:`features`.

**See:** OCI runtime specification, features.md, features-linux.md.
"""

import os
from typing import Any

from minidock import capabilities, cgroups, namespaces
from minidock.rootfs.options import WORDS

SPECIFICATION = "1.2.0"

HOOKS = (
    *("prestart", "createRuntime", "createContainer"),
    *("startContainer", "poststart", "poststop"),
)


# %% The document
def features() -> dict[str, Any]:
    """The document of ``features``."""
    version = cgroups.hierarchy()
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPECIFICATION,
        "hooks": list(HOOKS),
        "mountOptions": sorted(WORDS),
        "linux": {
            "namespaces": sorted(kind.name for kind in namespaces.KINDS),
            "capabilities": list(capabilities.NAMES),
            "cgroup": {
                "v1": version is not cgroups.Version.V2,
                "v2": version is not cgroups.Version.V1,
                "systemd": False,
                "systemdUser": False,
                "rdma": "rdma" in cgroups.host().controllers,
            },
            "apparmor": {"enabled": os.path.isdir("/sys/kernel/security/apparmor")},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
        "annotations": {"org.minidock.runtime": "true"},
        "potentiallyUnsafeConfigAnnotations": [],
    }
