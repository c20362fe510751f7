"""Containers of an ordinary user: somebody without a name, a single id, and later 65,536 of them."""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runtime.conftest import HERE, unpack_busybox

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else"),
    pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv"),
]

UID = 54321  # nobody's, hence without an entry in any file
FIRST = 2_000_000  # of the ids that the user is granted


class User:
    """An ordinary user with a bundle, who calls the runtime."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.bundle = place / "bundle"
        self.config: dict[str, Any] = {}
        self.before: list[str] = []

    def start(self, *words: str, terminal: bool = False) -> "subprocess.CompletedProcess[str]":
        """Call it, whatever comes of it."""
        command = [
            *self.before, "setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups",
            "/usr/bin/python3", "-m", "minidock.cli.runtime", *words,
        ]  # fmt: skip
        if terminal:
            command = ["script", "-qec", " ".join(command), "/dev/null"]
        variables = {"XDG_RUNTIME_DIR": str(self.place / "run"), "PYTHONPATH": str(HERE)}
        variables["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
        return subprocess.run(
            command, cwd=self.bundle, env=variables, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip

    def ok(self, *words: str, terminal: bool = False) -> str:
        """It must succeed."""
        done = self.start(*words, terminal=terminal)
        assert done.returncode == 0, done
        return done.stdout

    def fails(self, *words: str) -> str:
        """It must fail with one line."""
        done = self.start(*words)
        assert done.returncode != 0 and len(done.stderr.splitlines()) == 1, done
        return done.stderr

    def program(self, *words: str) -> str:
        """Write the configuration with this program; a new name for a container."""
        self.config["process"]["args"] = list(words)
        (self.bundle / "config.json").write_text(json.dumps(self.config))
        return f"md{secrets.token_hex(4)}"

    def script(self, text: str) -> list[str]:
        """The lines that a shell script prints in a container."""
        return self.ok("run", self.program("sh", "-c", text)).splitlines()

    def detached(self) -> str:
        """A container that sleeps; with output of its own, or we would wait for its end."""
        name = self.program("sleep", "1000")
        log = str(self.place / "log")
        self.ok("--log", log, "create", "--pid-file", str(self.place / "pid"), name, terminal=True)
        self.ok("start", name)
        return name


@pytest.fixture
def user() -> Iterator[User]:
    one = User(Path("/var/lib") / f"mdrootless{secrets.token_hex(4)}")
    (one.place / "run").mkdir(parents=True)
    unpack_busybox(one.bundle / "rootfs")
    subprocess.run(["chown", "-R", f"{UID}:{UID}", one.place], check=True)
    one.ok("spec", "--rootless")
    one.config = json.loads((one.bundle / "config.json").read_text())
    one.config["process"]["terminal"] = False
    one.config["root"]["readonly"] = False
    yield one
    for name in one.ok("list", "-q").split():
        one.ok("delete", "--force", name)
    left = os.listdir(one.place / "run/minidock-runtime")
    shutil.rmtree(one.place)
    assert left == []


# %% With the one id that everybody has
def test_root_in_there_is_the_user_out_here(user: User) -> None:
    said = user.script("id -u; cat /proc/self/uid_map; touch /made; ls -n /dev/null | cut -c1-10")
    assert said[0] == "0"
    assert said[1].split() == ["0", str(UID), "1"]
    assert said[2] == "crw-rw-rw-"
    assert (user.bundle / "rootfs/made").stat().st_uid == UID


def test_what_belongs_to_the_host_is_out_of_reach(user: User) -> None:
    said = user.script(
        "echo 1 > /proc/sys/kernel/sysrq; mount -o remount,rw /sys; mknod /x c 1 1; hostname"
        " 2>&1; cat /dev/mem; true"
    )
    assert said == ["runc"]


def test_a_life(user: User) -> None:
    name = user.detached()
    assert json.loads(user.ok("state", name))["status"] == "running"
    assert user.ok("list").splitlines()[1].split()[-1] == f"#{UID}"
    assert user.ok("exec", name, "sh", "-c", "id -u; ps -o args | head -2").split()[:3] == ["0", "COMMAND", "sleep"]  # fmt: skip
    assert user.start("exec", name, "sh", "-c", "exit 7").returncode == 7
    assert "container" in user.fails("delete", name)
    user.ok("kill", name, "KILL")
    user.ok("delete", "--force", name)
    assert user.ok("list", "-q") == ""


def test_a_terminal(user: User) -> None:
    user.config["process"]["terminal"] = True
    assert "/dev/pts/0" in user.ok("run", user.program("tty"), terminal=True)


# %% Without the right to cgroups
def test_limits_that_cannot_be_kept(user: User) -> None:
    """No cgroup is no failure; a limit that is not kept would be a lie."""
    user.config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    assert user.script("echo runs") == ["runs"]
    user.config["linux"]["resources"]["memory"] = {"limit": 1 << 26}
    assert "rootless: cannot set limits" in user.fails("run", user.program("true"))
    del user.config["linux"]["resources"]["memory"]
    assert "cgroup" in user.fails("--rootless=false", "run", user.program("true"))
    assert "invalid value for --rootless" in user.fails("--rootless=maybe", "run", "x")


# %% With the ids that root has granted
def test_more_ids(user: User) -> None:
    """``newuidmap`` looks into /etc/subuid, by the name that the user has: in a mount namespace both are."""
    if not (shutil.which("newuidmap") and os.path.exists("/etc/subuid")):
        pytest.skip("needs newuidmap (uidmap)")
    for name, text in {
        "passwd": f"root:x:0:0::/root:/bin/sh\nsomebody:x:{UID}:{UID}::/:/bin/sh\n",
        "subuid": f"somebody:{FIRST}:65536\n",
        "subgid": f"somebody:{FIRST}:65536\n",
    }.items():
        (user.place / name).write_text(text)
    binds = "; ".join(
        f"mount --bind {user.place}/{name} /etc/{name}" for name in ("passwd", "subuid", "subgid")
    )
    user.before = ["unshare", "--mount", "sh", "-c", f'{binds}; exec "$@"', "sh"]
    for kind in ("uidMappings", "gidMappings"):
        user.config["linux"][kind] = [
            {"containerID": 0, "hostID": UID, "size": 1},
            {"containerID": 1, "hostID": FIRST, "size": 65536},
        ]
    held = user.config["process"]["capabilities"]
    user.config["process"]["capabilities"] = {
        kind: [*names, "CAP_CHOWN"] for kind, names in held.items()
    }
    said = user.script(
        "chmod 777 /tmp; : > /tmp/file; chown 33:34 /tmp/file; stat -c %u:%g /tmp/file"
    )
    assert said == ["33:34"]
    status = (user.bundle / "rootfs/tmp/file").stat()
    assert (status.st_uid, status.st_gid) == (FIRST + 32, FIRST + 33)
    user.script("rm /tmp/file")
    user.config["process"]["user"] = {"uid": 33, "gid": 34, "additionalGids": [35]}
    assert user.script("id -u; id -G") == ["33", "34 35"]
    user.config["process"]["user"] = {"uid": 0, "gid": 0}
    user.config["linux"]["uidMappings"][1]["size"] = 65537
    assert "newuidmap" in user.fails("run", user.program("true"))
