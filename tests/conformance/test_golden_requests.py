"""What our command line asks the daemon for is what the stock docker command line asks for.

Both are run with the same flags against a server that writes down what it hears
(:mod:`.recorder`). Where they differ on purpose, the table says why.
"""

import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import docker_28
from tests.conformance.recorder import Outcome, Recorder

pytestmark = docker_28

Recorders = tuple[Recorder, Recorder]
POOL = ThreadPoolExecutor(2)

ROOT = Path(__file__).parent.parent.parent
OURS = [sys.executable, "-c", "from minidock.__main__ import main; raise SystemExit(main())"]


@pytest.fixture(scope="module")
def recorders() -> Iterator[Recorders]:
    with tempfile.TemporaryDirectory(prefix="mdrec") as name:
        made = Recorder(Path(name) / "theirs"), Recorder(Path(name) / "ours")
        try:
            yield made
        finally:
            for one in made:
                one.close()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the files that the flags name."""
    (tmp_path / "env").write_text("# a comment\nA=1\n\nHOME\n  B=2 \nNOT_SET_ANYWHERE\n")
    (tmp_path / "bad-env").write_text("A B=1\n")
    (tmp_path / "labels").write_text("a=1\n#c\nb\n")
    (tmp_path / "seccomp.json").write_text('{ "defaultAction" : "SCMP_ACT_ALLOW" }\n')
    (tmp_path / "not-json").write_text("{")
    (tmp_path / "taken").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def both(recorders: Recorders, arguments: list[str]) -> tuple[Outcome, Outcome]:
    """Side by side: each has a recorder of its own."""
    theirs = POOL.submit(recorders[0].record, ["docker"], arguments)
    ours = POOL.submit(recorders[1].record, OURS, arguments, PYTHONPATH=str(ROOT))
    return theirs.result(), ours.result()


def in_our_name(text: str) -> str:
    return text.replace("docker", "minidock").replace("Docker daemon", "MiniDock daemon")


# %% Absent and empty are the same to a daemon
EMPTY: tuple[Any, ...] = (None, "", [], {}, 0, False, [0, 0])


def meaning(body: Any) -> Any:
    """A create request without what says nothing."""
    plain = {key: value for key, value in body.items() if value not in EMPTY}
    host = {key: value for key, value in body.get("HostConfig", {}).items() if value not in EMPTY}
    if host.get("MemorySwappiness") == -1:  # "as it is"
        del host["MemorySwappiness"]
    if host.get("LogConfig") == {"Type": "", "Config": {}}:
        del host["LogConfig"]
    for key in ("MaskedPaths", "ReadonlyPaths"):  # here an empty list is a wish, null is none
        if body.get("HostConfig", {}).get(key) == []:
            host[key] = []
    endpoints = {}
    for name, endpoint in (
        (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    ).items():
        said = {key: value for key, value in (endpoint or {}).items() if value not in EMPTY}
        addresses = {k: v for k, v in (said.get("IPAMConfig") or {}).items() if v not in EMPTY}
        said = {**said, "IPAMConfig": addresses} if addresses else said
        if said:
            endpoints[name] = said
    plain.pop("NetworkingConfig", None)
    mounts = [
        {key: value for key, value in one.items() if value not in EMPTY}
        for one in host.get("Mounts", [])
    ]
    return {**plain, "HostConfig": {**host, "Mounts": mounts}, "Endpoints": endpoints}


# %% Flags that make sense
GOOD = """
-i | -t | -it | -a stdin | -a stdout -a stderr | -a STDIN -i | -i -a stdout | --annotation a=b
--add-host a:1.2.3.4 | --add-host a=1.2.3.4 | --add-host a:::1 | --add-host a=[::1]
--add-host x:host-gateway | --blkio-weight 100 | --blkio-weight-device /dev/vda:100
--cap-add net_admin --cap-drop ALL | --cap-add CAP_SYS_TIME | --cgroup-parent /x | --cgroupns host
--cgroupns private | --cpu-period 1000 | --cpu-quota 2000 | --cpu-rt-period 1 | --cpu-rt-runtime 1
-c 5 | --cpus 1.5 | --cpus .5 | --cpus 1/2 | --cpus -1 | --cpuset-cpus 0 | --cpuset-mems 0
--device /dev/null | --device /dev/null:/dev/x | --device /dev/null:/dev/x:r | --device /dev/null:rw
--device-cgroup-rule c_1:3_rwm | --device-read-bps /dev/vda:1mb | --device-read-iops /dev/vda:10
--device-write-bps /dev/vda:1mb | --device-write-iops /dev/vda:10 | --disable-content-trust
--dns 1.1.1.1 | --dns 1.1.1.1 --dns ::1 | --dns-option ndots:2 | --dns-opt ndots:3 | --dns-search x.y
--dns-search . | --domainname d | --entrypoint /x | --entrypoint= | -e A=b | -e HOME | -e NOT_SET_ANYWHERE
-e A= | -e A=b=c | --env-file env | --env-file env -e C=3 | --expose 80 | --expose 80-82/udp
--expose 80 -p 80 | --gpus all | --gpus 2 | --group-add 5 | --health-cmd true | --health-interval 5s
--health-cmd true --health-interval 1m30s --health-timeout 500ms --health-retries 3
--health-start-period 1m | --health-start-interval 2s | --no-healthcheck | -h x | --hostname=x | --init
--init=false | --ip 172.30.100.104 --network n | --ip6 2001:db8::33 --network n | --ipc host
--ipc shareable | --ipc container:x | --isolation default | -l a=b -l c | -l a=b=c | --label-file labels
--label-file labels -l z | --link x:y | --link x | --link-local-ip 169.254.1.2 --network n
--log-driver none | --log-driver json-file --log-opt max-size=1m --log-opt x
--mac-address 92:d0:c6:0a:29:33 | --mac-address 92:d0:c6:0a:29:33 --network n | -m 64m | -m 1g | -m 1.5k
-m 5 | -m 2GB | -m 3KiB | --memory-reservation 32m | -m 64m --memory-swap 128m | --memory-swap -1
--memory-swappiness 5 | --memory-swappiness 0 | --mount type=bind,src=/tmp,dst=/x,readonly
--mount type=bind,source=/tmp,target=/x,ro=false | --mount type=bind,src=.,dst=/x
--mount type=bind,"src=/tm,p",dst=/x | --mount type=bind,src=/tmp,dst=/x,bind-propagation=rslave
--mount type=bind,src=/tmp,dst=/x,bind-recursive=disabled | --mount dst=/x
--mount type=bind,src=/tmp,dst=/x,readonly,bind-recursive=readonly,bind-propagation=rprivate
--mount type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=1777 | --mount type=volume,src=v,dst=/x
--mount type=volume,src=v,dst=/x,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=a=b
--name abc | --name=abc | --network none | --network host | --network container:x | --net host
--network n | --network name=n,alias=x | --network n --network-alias x | --network n --net-alias x
--oom-kill-disable | --oom-score-adj 5 | --pid host | --pid container:x | --pids-limit 5
--pids-limit -1 | --pids-limit 0 | --platform linux/amd64 | --privileged | -p 80 | -p 8080:80
-p 127.0.0.1:8080:80 | -p 127.0.0.1::80 | -p 80/udp | -p 80/sctp | -p 10-12:20-22 | -p 10-12:20
-p [::1]:80:80 | -p 80-82 | -p target=80,published=8080,protocol=tcp | -p target=80 | -p 8080:80/TCP
-p 80:80 -p 81:80 | -p 0 | -p 0:80 | -P | --pull never | --pull missing | -q | --read-only | --restart no
--restart always | --restart on-failure | --restart on-failure:3 | --restart on-failure:-1
--restart unless-stopped | --restart nonsense | --restart= --rm | --rm | --rm=false | --runtime runc
--security-opt no-new-privileges | --security-opt no-new-privileges:true
--security-opt seccomp=unconfined | --security-opt seccomp=seccomp.json | --security-opt label=disable
--security-opt apparmor=unconfined | --security-opt label:disable | --security-opt systempaths=unconfined
--shm-size 64m | --stop-signal 9 | --stop-signal SIGQUIT | --stop-timeout 3 | --stop-timeout 0
--storage-opt size=1G | --sysctl net.core.somaxconn=5 | --sysctl kernel.sem=1_2_3_4 | --tmpfs /x
--tmpfs /x:size=1m,ro | --ulimit nofile=5:10 | --ulimit nofile=5 | --ulimit core=-1 | --ulimit core=5:-1
-u 1:2 | -u me | --userns host | --uts host | -v /a:/b | -v /a:/b:ro | -v vol:/b | -v /b
-v ./x:/b | -v /a:/b:rslave,ro | -v v:/b | -v= | -v /a:/b:c:d | -v c:d | -v : | -v /a:/ | -v /a:b | -v /a:/b:zz | -v /x -v /y | -v b
--volume-driver local | --volumes-from x | -w /x | -w rel | --use-nothing=false
""".replace(" | --use-nothing=false", "")

GOOD_FLAGS = [
    line.strip() for text in GOOD.splitlines() for line in text.split("|") if line.strip()
]


def words(line: str) -> list[str]:
    """Blanks separate; an underscore in a value stands for a blank where a rule has some."""
    spaced = ("c_1:3", "kernel.sem", "a_b")
    return [
        word.replace("_", " ") if any(word.startswith(one) for one in spaced) else word
        for word in line.split()
    ]


def created(outcome: Outcome) -> tuple[str, Any]:
    made = [asked for asked in outcome.asked if asked.path.startswith("/containers/create")]
    assert len(made) == 1, (outcome.stderr, outcome.asked)
    return made[0].path, made[0].body


@pytest.mark.parametrize("line", ["", *GOOD_FLAGS])
def test_create_asks_for_the_same(recorders: Recorders, here: Path, line: str) -> None:
    arguments = ["create", *words(line), "busybox", "cmd", "-x", "--rm"]
    theirs, ours = both(recorders, arguments)
    (their_path, their_body), (our_path, our_body) = created(theirs), created(ours)
    assert our_path == their_path
    assert meaning(our_body) == meaning(their_body)
    assert (ours.status, ours.stdout) == (theirs.status, theirs.stdout)


def test_what_is_left_out_of_the_comparison_is_said() -> None:
    """The comparison can fail: each part of it that is not compared as it stands is listed here."""
    assert meaning({"Cmd": ["a"], "HostConfig": {"Memory": 1}}) != meaning({"Cmd": ["a"]})
    assert meaning({"Volumes": {"/x": {}}}) != meaning({"Volumes": {}})
    assert meaning({"HostConfig": {"MaskedPaths": []}}) != meaning({"HostConfig": {}})
    named = {"NetworkingConfig": {"EndpointsConfig": {"n": {"Aliases": ["x"]}}}}
    assert meaning(named) != meaning({})


@pytest.mark.parametrize(
    "line", ["-d", "-d --rm", "-di", "--rm", "-i", "-a stdout", "-a stdin -a stderr"]
)
def test_run_asks_for_the_same_container(recorders: Recorders, here: Path, line: str) -> None:
    theirs, ours = both(recorders, ["run", *line.split(), "busybox", "cmd"])
    assert meaning(created(ours)[1]) == meaning(created(theirs)[1])
    attached = [
        [
            sorted(asked.path.partition("?")[2].split("&"))
            for asked in one.asked
            if "/attach" in asked.path
        ]
        for one in (ours, theirs)
    ]
    assert attached[0] == attached[1]


# %% Flags that make none
BAD = """
--nope | -Z | -itZ | --name | -e | -m x | -m -5 | -m= | --memory= | -m 1x | --cpus x | --cpus 0.0000000001
--pids-limit x | --rm=maybe | --add-host x | --add-host x:y | --add-host x: | -a nope
--blkio-weight x | --blkio-weight 70000 | --blkio-weight -1 | --cgroupns x | --cidfile taken
--cpu-period x | --cpu-period 99999999999999999999 | --device x | --device /a:/b:zz | --device=
--dns x | --dns-search a_b | -e= | --env= | -e =x | --env-file nosuch | --env-file bad-env | --expose x
--expose 80:80 | -l =x | -l= | --label= | --label-file nosuch | --link= | --mac-address x
-m 64m --memory-swap x | --memory-swappiness x | --memory-swappiness 1000 | --mount x
--mount type=bind | --mount type=bind,src=/a | --mount type=bind,src=/a,dst=/x,foo=bar
--mount type=bind,dst=/x,readonly=zz | --mount type=tmpfs,dst=/x,tmpfs-size=z | --mount=
--mount type=volume,dst=/x,tmpfs-size=1 | --mount type=bind,src=/tmp,dst=/x,bind-create-src
--network= | --network-alias x | --oom-score-adj x | --pid x | --pid container: | -p x | -p= | --publish= | -p x=1 | -p 1:y
-p 1-2:1-5 | -p 99999 | -p 80/x | -p 1.2.3:80:80 | -p a:80:80 | -p 80: | -p 5-1 | -p 80:80:80:80
--pull x | --restart on-failure:x | --restart :3 | --restart always --rm | --security-opt x
--security-opt seccomp=/nosuch | --shm-size x | --stop-timeout x | --storage-opt x | --sysctl x
--sysctl= | --sysctl a.b=c | --ulimit x | --ulimit nofile=x | --ulimit nofile=10:5 | --ulimit nope=5
--ulimit nofile=-1:5 | --userns x | --uts x | -v /a::/b | --volume= | -v /a:/b:ro:x | --health-interval x
--health-interval -5s | --health-retries -1 | --no-healthcheck --health-cmd x | --detach-keys x
--gpus x | --device-cgroup-rule x | --device-read-bps x | --device-read-bps /dev/vda:z
--device-read-iops /dev/vda:z | --blkio-weight-device /dev/vda:5 | --blkio-weight-device x
"""

BAD_FLAGS = [line.strip() for text in BAD.splitlines() for line in text.split("|") if line.strip()]


@pytest.mark.parametrize("line", BAD_FLAGS)
def test_create_refuses_in_the_same_words(recorders: Recorders, here: Path, line: str) -> None:
    theirs, ours = both(recorders, ["create", *words(line), "busybox"])
    assert not [asked for asked in ours.asked if asked.path.startswith("/containers/create")]
    assert (ours.status, ours.stderr, ours.stdout) == (
        theirs.status,
        in_our_name(theirs.stderr),
        theirs.stdout,
    )


RUN_BAD = ["-d -a stdin busybox", "-d -a stdout busybox", "-it busybox", "-t -a stdin busybox", ""]


@pytest.mark.parametrize("line", RUN_BAD)
def test_run_refuses_in_the_same_words(recorders: Recorders, here: Path, line: str) -> None:
    theirs, ours = both(recorders, ["run", *line.split()])
    assert (ours.status, ours.stderr) == (theirs.status, in_our_name(theirs.stderr))


# %% The other commands
COMMANDS = """
attach container diff exec kill logs pause port ps rename restart rm start stats stop top unpause
update version info events images inspect load rmi tag wait cp
""".split()

NO_ARGUMENTS_NEEDED = ("container", "ps", "stats", "version", "info", "events", "images", "load")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_flag_and_too_few_words(recorders: Recorders, command: str) -> None:
    lines = [[command, "--nope"], [command, "-Z"]]
    lines += [] if command in NO_ARGUMENTS_NEEDED else [[command]]
    for line in lines:
        theirs, ours = both(recorders, line)
        if command == "container":
            assert ours.status != 0
            continue
        assert (ours.status, ours.stderr) == (theirs.status, in_our_name(theirs.stderr)), line


WORDS = [
    "nope", "help nope", "--nope", "-Z", "container nope", "image nope", "ps a", "logs a b",
    "ps --filter x", "ps -n x", "kill -s", "stop -t x a", "start -a a b", "rename a", "tag a", "port a b c",
    "exec a", "exec -it a b", "cp a", "cp a b", "cp a:b c:d", "version a", "info a", "events a",
    "kill a", "kill -s HUP a", "stop a", "stop -t 3 a", "stop -s INT a", "restart a", "restart -t 1 a b",
    "start a", "start a b", "rename a b", "pause a b", "unpause a",
]  # fmt: skip


@pytest.mark.parametrize("line", WORDS)
def test_words_and_requests_of_other_commands(recorders: Recorders, line: str) -> None:
    theirs, ours = both(recorders, line.split())
    assert (ours.status, ours.stderr, ours.stdout) == (
        theirs.status,
        in_our_name(theirs.stderr),
        theirs.stdout,
    )

    def acts(outcome: Outcome) -> list[tuple[str, str]]:
        return sorted(
            (one.method, one.path) for one in outcome.asked if one.method in ("POST", "DELETE")
        )

    assert acts(ours) == acts(theirs)


# %% --help names the same flags
NOT_OURS = {
    "cpu-count": "Windows only",
    "cpu-percent": "Windows only",
    "io-maxbandwidth": "Windows only",
    "io-maxiops": "Windows only",
    "use-api-socket": "experimental in this one version",
    "checkpoint": "experimental",
    "checkpoint-dir": "experimental",
    "tree": "experimental",
}

NOT_THEIRS = {"explain": "what MiniDock is for", "help": "Docker lists it for run alone"}


@pytest.mark.parametrize(
    "command",
    "run create ps logs exec stop kill rm start inspect attach update stats cp events".split(),
)
def test_help_lists_the_same_flags(recorders: Recorders, command: str) -> None:
    theirs, ours = both(recorders, [command, "--help"])

    def listed(text: str) -> dict[str, str]:
        found = {}
        for line in text.splitlines():
            parts = line.split()
            names = [word for word in parts[:2] if word.startswith("--")]
            if line.startswith("  ") and line[:6].strip(" -") != line[:6] and names:
                kind = line.partition(names[0])[2].split("   ")[0].strip()
                short = parts[0].strip("-,") if len(parts[0]) < 4 else ""
                found[names[0].strip("-")] = f"{short} {kind}"
        return found

    their_flags, our_flags = listed(theirs.stdout), listed(ours.stdout)
    assert their_flags
    for name in (*NOT_OURS, *NOT_THEIRS):
        their_flags.pop(name, None)
        our_flags.pop(name, None)
    assert our_flags == their_flags
    assert ours.stdout.splitlines()[0] == in_our_name(theirs.stdout.splitlines()[0])
