"""What the configuration asks for is what the container gets, property by property."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runtime.conftest import HERE, Runtime

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def mounts(text: str) -> dict[str, list[str]]:
    """Of a mountinfo: the fields by where it is mounted."""
    return {line.split()[4]: line.split() for line in text.splitlines()}


# %% Mounts
def bind(runtime: Runtime, *options: str, **more: Any) -> Path:
    """A directory beside the bundle, to be seen at /data; a second file system is mounted in it."""
    source = runtime.directory / "source"
    (source / "below").mkdir(parents=True, exist_ok=True)
    (source / "file").write_text("text")
    entry = {"destination": "/data", "type": "bind", "source": str(source), **more}
    runtime.config["mounts"].append({**entry, "options": list(options)})
    return source


def test_bind_attributes_of_one_mount_and_of_all_below(runtime: Runtime) -> None:
    """``ro`` is for the mount itself, ``rro`` for those below it, too."""
    source = bind(runtime, "rbind", "ro", "nosuid", "noatime")
    subprocess.run(["mount", "-t", "tmpfs", "below", f"{source}/below"], check=True)
    try:
        found = mounts(runtime.run("cat", "/proc/self/mountinfo"))
        assert {"ro", "nosuid", "noatime"} <= set(found["/data"][5].split(","))
        assert "rw" in found["/data/below"][5].split(",")
        runtime.config["mounts"].pop()
        bind(runtime, "rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnosymfollow")
        found = mounts(runtime.run("cat", "/proc/self/mountinfo"))
        for place in ("/data", "/data/below"):
            assert {"ro", "nosuid", "nodev", "noexec"} <= set(found[place][5].split(","))
    finally:
        subprocess.run(["umount", f"{source}/below"], check=True)


@pytest.mark.parametrize(
    ("word", "shown"),
    [("shared", "shared:"), ("slave", "master:"), ("private", "-"), ("unbindable", "unbindable")],
)
def test_propagation(runtime: Runtime, word: str, shown: str) -> None:
    """Of one mount; a slave needs a master, so the source is shared first."""
    source = bind(runtime, "bind", word)
    subprocess.run(["mount", "--bind", source, source], check=True)
    subprocess.run(["mount", "--make-shared", source], check=True)
    try:
        found = mounts(runtime.run("cat", "/proc/self/mountinfo"))
        assert found["/data"][6].startswith(shown)
    finally:
        subprocess.run(["umount", source], check=True)


@pytest.mark.parametrize("word", ["private", "slave", "shared", "unbindable"])
def test_rootfs_propagation(runtime: Runtime, word: str) -> None:
    """``rootfsPropagation`` of the container's ``/``."""
    runtime.config["linux"]["rootfsPropagation"] = word
    fields = mounts(runtime.run("cat", "/proc/self/mountinfo"))["/"]
    shown = {"shared": "shared:", "unbindable": "unbindable"}.get(word)
    assert fields[6].startswith(shown) if shown else "shared" not in fields[6]


def test_tmpfs_keeps_what_it_covers(runtime: Runtime) -> None:
    """``tmpcopyup``; and read-only when all is in it."""
    (runtime.bundle / "rootfs/tmp/kept").write_text("kept")
    entry = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
    runtime.config["mounts"].append({**entry, "options": ["tmpcopyup", "ro", "mode=0711"]})
    said = runtime.run("sh", "-c", "cat /tmp/kept; stat -c %a /tmp; touch /tmp/x 2>&1 || true")
    assert said.splitlines()[:1] == ["kept711"]
    assert "Read-only file system" in said


def test_idmapped_mount(runtime: Runtime) -> None:
    """Files of 1000 are shown as another's: by the mount's own maps, or by the container's."""
    source = bind(runtime, "bind", "idmap")
    os.chown(source / "file", 1000, 1000)
    maps = [{"containerID": 0, "hostID": 70000, "size": 65536}]
    runtime.config["mounts"][-1] |= {"uidMappings": maps, "gidMappings": maps}
    said = runtime.run("stat", "-c", "%u:%g", "/data/file")
    assert said == "71000:71000"


def test_nothing_is_mounted_in_proc_or_through_a_link(runtime: Runtime) -> None:
    """CVE-2019-16884, CVE-2023-27561: the container's ``/proc`` is its own, and where it says."""
    bind(runtime, "bind")
    runtime.config["mounts"][-1]["destination"] = "/proc/self/attr"
    runtime.config["process"]["args"] = ["true"]
    runtime.write()
    assert "it is inside /proc" in runtime.fails("run", runtime.name())
    runtime.config["mounts"].pop()
    (runtime.bundle / "rootfs/proc").rmdir()
    (runtime.bundle / "rootfs/proc").symlink_to("tmp")
    runtime.write()
    assert "must be mounted on ordinary directory" in runtime.fails("run", runtime.name())


# %% Devices
def test_devices(runtime: Runtime) -> None:
    """Nodes with their mode and owner, a fifo, the default ones, the links; and who may open what."""
    runtime.config["linux"]["devices"] = [
        {
            "type": "c",
            "path": "/dev/mine",
            "major": 1,
            "minor": 7,
            "fileMode": 0o644,
            "uid": 1,
            "gid": 2,
        },
        {"type": "p", "path": "/dev/pipe", "fileMode": 0o600},
        {"type": "b", "path": "/dev/disk", "major": 7, "minor": 200},
    ]
    said = runtime.run(
        "sh", "-c", "stat -c '%F %a %u:%g %t:%T' /dev/mine /dev/pipe; head -c 3 /dev/mine | wc -c;"
        " head -c1 /dev/disk 2>&1; readlink /dev/fd; readlink /dev/ptmx",
    )  # fmt: skip
    lines = said.splitlines()
    assert lines[0] == "character special file 644 1:2 1:7"
    assert lines[1].startswith("fifo 600 0:0")
    assert lines[2] == "3"
    assert "Operation not permitted" in lines[3]
    assert lines[4:] == ["/proc/self/fd", "pts/ptmx"]


# %% Namespaces
def test_user_namespace(runtime: Runtime) -> None:
    """Root in there is 70000 out here, and reads nothing of root's; binds of hidden directories work."""
    maps = [{"containerID": 0, "hostID": 70000, "size": 65536}]
    runtime.config["linux"] |= {"uidMappings": maps, "gidMappings": maps}
    runtime.config["linux"]["namespaces"].append({"type": "user"})
    for path, directories, files in os.walk(runtime.bundle / "rootfs"):
        for name in (".", *directories, *files):
            os.lchown(os.path.join(path, name), 70000, 70000)
    bind(runtime, "bind")
    hidden = runtime.directory / "hidden"
    hidden.mkdir(mode=0o700)
    (runtime.directory / "source").rename(hidden / "source")
    runtime.config["mounts"][-1]["source"] = str(hidden / "source")
    said = runtime.run(
        "sh", "-c", "id -u; cat /proc/self/uid_map; cat /data/file; echo; ls -la /dev/null"
    )
    assert said.split()[:4] == ["0", "0", "70000", "65536"]
    assert "text" in said and "1,   3" in said
    name = runtime.detached("sleep", "1000")
    assert runtime.ok("exec", name, "id", "-u") == "0"
    joined = f"/proc/{json.loads(runtime.ok('state', name))['pid']}/ns/user"
    runtime.config["linux"]["namespaces"][-1]["path"] = joined
    del runtime.config["linux"]["uidMappings"], runtime.config["linux"]["gidMappings"]
    assert runtime.run("readlink", "/proc/self/ns/user") == os.readlink(joined)


def test_time_namespace(runtime: Runtime) -> None:
    """Clocks with offsets, in the container and in what is executed in it."""
    runtime.config["linux"]["namespaces"].append({"type": "time"})
    runtime.config["linux"]["timeOffsets"] = {
        "monotonic": {"secs": 7881, "nanosecs": 2718281},
        "boottime": {"secs": 1337, "nanosecs": 3141519},
    }
    name = runtime.detached("sleep", "1000")
    said = runtime.ok("exec", name, "cat", "/proc/self/timens_offsets").split()
    assert said == ["monotonic", "7881", "2718281", "boottime", "1337", "3141519"]


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "pid", "cgroup", "time"])
def test_joining_a_namespace(runtime: Runtime, kind: str) -> None:
    """Every kind by its path."""
    wanted = runtime.config["linux"]["namespaces"]
    for more in ("time", "cgroup"):
        if not any(one["type"] == more for one in wanted):
            wanted.append({"type": more})
    name = runtime.detached("sleep", "1000")
    pid = json.loads(runtime.ok("state", name))["pid"]
    file = {"network": "net", "mount": "mnt"}.get(kind, kind)
    path = f"/proc/{pid}/ns/{file}"
    runtime.config["linux"]["namespaces"] = [
        {**one, "path": path} if one["type"] == kind else one for one in wanted
    ]
    if kind == "uts":
        del runtime.config["hostname"]
    assert runtime.run("readlink", f"/proc/self/ns/{file}") == os.readlink(path)


def test_joining_a_mount_namespace(runtime: Runtime) -> None:
    """The bundle is looked for in it, and it gets the bundle's root; the host's own stays."""
    other = subprocess.Popen(["unshare", "--mount", "sleep", "1000"])
    try:
        path = f"/proc/{other.pid}/ns/mnt"
        while os.readlink(path) == os.readlink("/proc/self/ns/mnt"):
            time.sleep(0.01)
        for one in runtime.config["linux"]["namespaces"]:
            if one["type"] == "mount":
                one["path"] = path
        assert runtime.run("readlink", "/proc/self/ns/mnt") == os.readlink(path)
    finally:
        other.kill()
        other.wait()
    assert Path("/etc/debian_version").exists()


# %% The process
def test_process_attributes(runtime: Runtime) -> None:
    """Groups, umask, limits, oom score, priorities, all five sets, and no new privileges."""
    process = runtime.config["process"]
    process["user"] = {"uid": 1000, "gid": 1000, "umask": 0o027, "additionalGids": [5, 6]}
    process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    process["oomScoreAdj"] = 321
    process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    caps = ["CAP_NET_BIND_SERVICE"]
    sets = ("bounding", "effective", "permitted", "inheritable", "ambient")
    process["capabilities"] = dict.fromkeys(sets, caps)
    said = runtime.run(
        "sh", "-c", "id -G; umask; ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; cut -d ' ' -f 19 /proc/self/stat;"
        " grep -E '^(Cap|NoNewPrivs)' /proc/self/status",
    ).splitlines()  # fmt: skip
    assert said[:6] == ["1000 5 6", "0027", "100", "200", "321", "7"]
    assert [line.split()[1] for line in said[6:11]] == ["0000000000000400"] * 5
    assert said[11].split()[1] == "1"


def test_names_and_kernel_parameters(runtime: Runtime) -> None:
    """Host name, domain name, sysctl, annotations in the state."""
    runtime.config["hostname"], runtime.config["domainname"] = "inner", "example.org"
    runtime.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "99"}
    runtime.config["annotations"] = {"org.example.key": "value"}
    name = runtime.detached("sleep", "1000")
    said = runtime.ok(
        "exec", name, "cat", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname",
        "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmni",
    )  # fmt: skip
    assert said.split() == ["inner", "example.org", "1", "99"]
    assert json.loads(runtime.ok("state", name))["annotations"] == {"org.example.key": "value"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its 32-bit twin is i686")
def test_personality(runtime: Runtime) -> None:
    """A container that believes to be 32 bits wide."""
    runtime.config["linux"]["personality"] = {"domain": "LINUX32"}
    assert runtime.run("uname", "-m") == "i686"


def test_raising_a_limit_is_refused(runtime: Runtime) -> None:
    """The specification wants an error where the engine asks only for what the host can grant."""
    from minidock.capabilities import host_bounding_set, mask

    if host_bounding_set() & mask(["CAP_SYS_RESOURCE"]):
        pytest.skip("this host can raise limits")
    runtime.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 2**30}]
    runtime.config["process"]["args"] = ["true"]
    runtime.write()
    assert "error setting rlimit RLIMIT_NOFILE" in runtime.fails("run", runtime.name())


# %% Hooks
KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def hook(runtime: Runtime, kind: str, script: str = "") -> dict[str, Any]:
    """A hook that appends its kind, and the state that it is given, to a file (which the container sees)."""
    line = f"{script or 'true'}; echo {kind} $(cat) >> /tmp/hooks"
    if kind != "startContainer":
        line = line.replace("/tmp/hooks", str(runtime.bundle / "rootfs/tmp/hooks"))
    return {"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin"]}


def ran(runtime: Runtime) -> list[tuple[str, str]]:
    """Which hooks ran, with the status that each was told."""
    file = runtime.bundle / "rootfs/tmp/hooks"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(line.split()[0], json.loads(line.partition(" ")[2])["status"]) for line in lines]


def test_all_hooks_in_order(runtime: Runtime) -> None:
    """Each with the state of its moment on its input."""
    runtime.config["root"]["readonly"] = False
    runtime.config["hooks"] = {kind: [hook(runtime, kind)] for kind in KINDS}
    runtime.run("sleep", "0.3")
    states = ["creating", "creating", "creating", "created", "running", "stopped"]
    assert ran(runtime) == list(zip(KINDS, states, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_fails(runtime: Runtime, kind: str) -> None:
    """The container is over, with an error, and poststop hooks run; poststop's own failure is only said."""
    runtime.config["root"]["readonly"] = False
    runtime.config["hooks"] = {
        kind: [{"path": "/bin/sh", "args": ["sh", "-c", "echo sorry >&2; exit 3"]}]
    }
    runtime.config["hooks"].setdefault("poststop", []).append(hook(runtime, "poststop"))
    runtime.config["process"]["args"] = ["sleep", "0.3"]
    runtime.write()
    done = runtime.call("run", runtime.name())
    assert f"error running {kind} hook" in done.stderr and "sorry" in done.stderr
    assert (done.returncode == 0) == (kind == "poststop")
    assert ran(runtime) == [("poststop", "stopped")]
    assert runtime.left() == {}


def test_a_hook_takes_too_long(runtime: Runtime) -> None:
    """It is killed, with its children."""
    runtime.config["process"]["args"] = ["true"]
    slow = {"path": "/bin/sh", "args": ["sh", "-c", "sleep 1000 & wait"], "timeout": 1}
    runtime.config["hooks"] = {"createRuntime": [slow]}
    runtime.write()
    assert "did not end within 1 s" in runtime.fails("run", runtime.name())


# %% Without a mount namespace
def test_the_hosts_mount_namespace(runtime: Runtime) -> None:
    """chroot(2) must do, and delete unmounts what was mounted on the host."""
    linux = runtime.config["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "mount"]
    linux |= {"maskedPaths": [], "readonlyPaths": []}
    runtime.config["root"]["readonly"] = False
    assert runtime.run("ls", "/bin/busybox") == "/bin/busybox"
    assert runtime.left() == {}


def test_a_hook_in_there_is_filtered_like_the_program(runtime: Runtime) -> None:
    """It runs in the program's place; what the program may not call, it may not, either."""
    filtered = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}],
    }
    make = {"path": "/bin/busybox", "args": ["mkdir", "/tmp/made"]}
    runtime.config["root"]["readonly"] = False
    runtime.config["process"]["args"] = ["true"]
    for seccomp, said in (({}, ""), (filtered, "signal: bad system call")):
        runtime.config["linux"]["seccomp"] = seccomp or None
        runtime.config["hooks"] = {"startContainer": [make]}
        runtime.write()
        done = runtime.call("run", runtime.name())
        assert said in done.stderr and (done.returncode == 0) == (not said), done
        assert (runtime.bundle / "rootfs/tmp/made").exists() == (not said)
        if not said:
            (runtime.bundle / "rootfs/tmp/made").rmdir()


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_hooks_get_no_files_but_their_three(runtime: Runtime, kind: str) -> None:
    """Whatever the caller has left open for us."""
    script = "ls /proc/self/fd | wc -l >&2; exit 1"
    runtime.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    runtime.config["process"]["args"] = ["true"]
    runtime.write()
    fds = [os.open(runtime.bundle, os.O_RDONLY) for _ in range(3)]
    command = [sys.executable, "-m", "minidock.cli.runtime", "--root", str(runtime.state)]
    done = subprocess.run(
        [*command, "run", runtime.name()], cwd=runtime.bundle, env={**os.environ, "PYTHONPATH": str(HERE)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, pass_fds=fds, timeout=60, check=False,
    )  # fmt: skip
    for fd in fds:
        os.close(fd)
    assert "stderr: 4" in done.stderr, done  # and the one by which ls looks
