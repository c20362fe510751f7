"""Seccomp on the real kernel: every action, arguments, architectures, and the listener."""

import ctypes
import errno
import json
import os
import platform
import secrets
import socket
import struct
import threading
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from minidock.seccomp import names
from tests.conformance.conftest import Daemon, daemon, session_daemon
from tests.integration.escapes.test_kernel import python

__all__ = ["daemon", "session_daemon"]

NATIVE = names.native()[0]


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[Any]:
    """Writes a profile; returns the options that apply it."""

    def write(default: str, *rules: dict[str, Any], **more: Any) -> list[str]:
        document = {"defaultAction": default, "architectures": [NATIVE], "syscalls": rules, **more}
        path = tmp_path / "profile.json"
        path.write_text(json.dumps(document))
        return ["--security-opt", f"seccomp={path}"]

    yield write


def rule(action: str, *calls: str, **more: Any) -> dict[str, Any]:
    return {"names": list(calls), "action": f"SCMP_ACT_{action}", **more}


# %% Actions
@pytest.mark.parametrize(
    ("action", "status", "words"),
    [
        ("ERRNO", 1, "Operation not permitted"),
        ("KILL", 159, ""),
        ("KILL_THREAD", 159, ""),
        ("KILL_PROCESS", 159, ""),
        ("TRAP", 159, ""),
        ("TRACE", 1, "Function not implemented"),
        ("LOG", 0, ""),
        ("ALLOW", 0, ""),
    ],
)
def test_every_action(daemon: Daemon, profile: Any, action: str, status: int, words: str) -> None:
    options = profile("SCMP_ACT_ALLOW", rule(action, "mkdir", "mkdirat"))
    done = daemon.docker("run", "--rm", *options, "busybox", "mkdir", "/x")
    assert done.returncode == status and words in done.stderr, done


def test_a_number_of_ones_own(daemon: Daemon, profile: Any) -> None:
    options = profile("SCMP_ACT_ALLOW", rule("ERRNO", "mkdir", "mkdirat", errnoRet=errno.ENOSPC))
    done = daemon.docker("run", "--rm", *options, "busybox", "mkdir", "/x")
    assert "No space left on device" in done.stderr


# %% A filter that allows the program, and nothing that our interpreter would need
FEW = (
    "execve arch_prctl brk set_tid_address set_robust_list rseq prlimit64 readlink readlinkat getrandom"
    " mprotect getuid exit_group write prctl ioctl fstat newfstatat"
)


def test_nothing_comes_between_the_filter_and_the_program(daemon: Daemon, profile: Any) -> None:
    options = profile("SCMP_ACT_KILL_PROCESS", rule("ALLOW", *FEW.split()))
    assert daemon.ok("run", "--rm", *options, "busybox", "echo", "hi") == "hi\n"
    done = daemon.docker("run", "--rm", *options, "busybox", "mkdir", "/x")
    assert done.returncode == 159


def test_the_capability_that_loaded_it_is_gone(daemon: Daemon, profile: Any) -> None:
    options = profile("SCMP_ACT_ALLOW", rule("ERRNO", "mkdir"))
    show = ["busybox", "grep", "-E", "Cap(Prm|Eff|Amb)|Seccomp:", "/proc/self/status"]
    for user, mask in (("0", "00000000a80425fb"), ("1000", "0000000000000000")):
        fields = daemon.ok("run", "--rm", "-u", user, *options, *show).split()
        assert fields == [
            "CapPrm:", mask, "CapEff:", mask, "CapAmb:", "0000000000000000", "Seccomp:", "2",
        ]  # fmt: skip


def test_exec_has_the_filter_too(daemon: Daemon, profile: Any) -> None:
    options = profile("SCMP_ACT_ALLOW", rule("ERRNO", "mkdir", "mkdirat"))
    container = daemon.ok("run", "-d", *options, "busybox", "sleep", "1000").strip()
    assert "not permitted" in daemon.docker("exec", container, "mkdir", "/x").stderr


# %% Arguments
def test_arguments_and_their_upper_halves(daemon: Daemon, profile: Any) -> None:
    """kill(2) takes two ints: a filter for the signal must not be fooled by bits above the 32nd."""
    condition = {"index": 1, "value": 0xFFFFFFFF, "valueTwo": 10, "op": "SCMP_CMP_MASKED_EQ"}
    exact = {"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}
    number = {"x86_64": 62, "aarch64": 129}[platform.machine()]
    code = (
        "import signal; signal.signal(10, signal.SIG_IGN)\n"
        f"print([call({number}, os.getpid(), s) for s in (0, 10, 10 | 1 << 32)])"
    )
    masked = profile("SCMP_ACT_ALLOW", rule("ERRNO", "kill", args=[condition]))
    assert python(daemon, code, *masked) == "[0, -1, -1]"
    tricked = profile("SCMP_ACT_ALLOW", rule("ERRNO", "kill", args=[exact]))
    assert python(daemon, code, *tricked) == "[0, -1, 0]"


# %% Another architecture on the same machine
INT80 = """
import mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(b'\\xb8' + (288).to_bytes(4, 'little') + b'\\x53\\x31\\xdb\\x31\\xc9\\x31\\xd2\\x31\\xf6\\xcd\\x80\\x5b\\xc3')
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))())
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 is of x86")
def test_a_32_bit_call_from_a_64_bit_program(daemon: Daemon) -> None:
    """Number 288 is keyctl there, and keyctl is denied; on x86-64 it is accept4, which is not."""
    assert python(daemon, INT80) == "-1"
    loose = python(daemon, INT80, "--security-opt", "seccomp=unconfined")
    if loose == "-38":
        pytest.skip("this kernel runs no 32-bit programs")
    assert loose == "-22"  # EINVAL: keyctl has looked at it


# %% The listener: somebody outside answers
NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101


class Agent(threading.Thread):
    """Accepts descriptors at its socket, and answers every call with ``error``, or lets it go on if that is 0.

    After ``most`` calls it closes the descriptor.
    """

    def __init__(self, path: Path, error: int, most: int = 1000) -> None:
        super().__init__(daemon=True)
        self.error, self.most = error, most
        self.states, self.calls = list[dict[str, Any]](), list[int]()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()

    @property
    def state(self) -> dict[str, Any]:
        return self.states[0]

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            data, (door,), _, _ = socket.recv_fds(connection, 65536, 1)
            self.states.append(json.loads(data))
            connection.close()
            threading.Thread(target=self.answer, args=(door,), daemon=True).start()

    def answer(self, door: int) -> None:
        try:
            for _ in range(self.most):
                request = bytearray(80)
                ioctl(door, NOTIF_RECV, request)
                cookie, _, _, number = struct.unpack_from("=QIIi", request)
                self.calls.append(number)
                answer = struct.pack("=QqiI", cookie, 0, -self.error, int(self.error == 0))
                ioctl(door, NOTIF_SEND, bytearray(answer))
        except OSError:
            return
        finally:
            os.close(door)


def test_a_listener_answers(daemon: Daemon, profile: Any, tmp_path: Path) -> None:
    agent = Agent(tmp_path / "agent.sock", errno.EXDEV)
    agent.start()
    options = profile(
        "SCMP_ACT_ALLOW",
        rule("NOTIFY", "mkdir", "mkdirat"),
        listenerPath=str(tmp_path / "agent.sock"),
        listenerMetadata="for the test",
    )
    done = daemon.docker("run", "--rm", "--name", "asked", *options, "busybox", "mkdir", "/x")
    assert "Invalid cross-device link" in done.stderr, done
    assert agent.calls == [names.numbers(NATIVE).get("mkdir", names.numbers(NATIVE)["mkdirat"])]
    assert agent.state["metadata"] == "for the test" and agent.state["fds"] == ["seccompFd"]
    assert agent.state["pid"] == agent.state["state"]["pid"] > 1
    assert len(agent.state["state"]["id"]) == 64
    agent.listener.close()


def test_the_program_itself_waits_for_the_listener(
    daemon: Daemon, profile: Any, tmp_path: Path
) -> None:
    """The first call behind the filter is our own execve(2): who answers must have heard by then."""
    agent = Agent(tmp_path / "agent.sock", 0)
    agent.start()
    path = str(tmp_path / "agent.sock")
    options = profile("SCMP_ACT_ALLOW", rule("NOTIFY", "execve"), listenerPath=path)
    name = f"asked{secrets.token_hex(3)}"
    daemon.ok("run", "-d", "--name", name, *options, "busybox", "sleep", "100")
    assert agent.calls == [names.numbers(NATIVE)["execve"]]
    assert daemon.ok("exec", name, "echo", "also asked for") == "also asked for\n"
    assert agent.calls == [names.numbers(NATIVE)["execve"]] * 2
    first, second = agent.states  # exec has a listener, and a pid, of its own
    assert first["state"]["id"] == second["state"]["id"]
    assert second["pid"] not in (0, first["pid"])
    assert second["state"]["pid"] == first["pid"]
    agent.listener.close()


def test_a_listener_that_goes(daemon: Daemon, profile: Any, tmp_path: Path) -> None:
    """When nobody is left to answer, the kernel says that there is no such call."""
    agent = Agent(tmp_path / "agent.sock", errno.EXDEV, most=1)
    agent.start()
    path = str(tmp_path / "agent.sock")
    options = profile("SCMP_ACT_ALLOW", rule("NOTIFY", "mkdir", "mkdirat"), listenerPath=path)
    script = "mkdir /x; sleep 0.5; mkdir /y; true"
    done = daemon.docker("run", "--rm", *options, "busybox", "sh", "-c", script)
    first, second = done.stderr.splitlines()
    assert "cross-device link" in first and "Function not implemented" in second, done
    agent.listener.close()


def test_everything_cannot_be_asked(daemon: Daemon, profile: Any, tmp_path: Path) -> None:
    options = profile("SCMP_ACT_NOTIFY", listenerPath=str(tmp_path / "agent.sock"))
    done = daemon.docker("run", "--rm", *options, "busybox", "true")
    assert done.returncode == 125 and "cannot be the default action" in done.stderr, done
    assert daemon.ok("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("path", "calls", "words"),
    [
        ("", ["mkdir"], "an absolute path is required"),
        ("/nowhere/agent.sock", ["mkdir"], "No such file or directory"),
        ("/nowhere/agent.sock", ["sendmsg"], "cannot be used for sendmsg"),
    ],
)
def test_listeners_that_cannot_be(
    daemon: Daemon, profile: Any, path: str, calls: list[str], words: str
) -> None:
    options = profile("SCMP_ACT_ALLOW", rule("NOTIFY", *calls), listenerPath=path)
    done = daemon.docker("run", "--rm", *options, "busybox", "true")
    assert done.returncode == 125 and words in done.stderr, done
    assert daemon.ok("ps", "-aq") == ""


# %% Profiles that make no sense
@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("[]", "Decoding seccomp profile failed"),
        ("{}", "no 'defaultAction' specified"),
        ('{"defaultAction": "SCMP_ACT_PERHAPS"}', "unknown action 'SCMP_ACT_PERHAPS'"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],'
            ' "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}',
            "use either 'architectures' or 'archMap'",
        ),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": "all"}', "expected an array"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["FAST"]}', "unknown flag 'FAST'"),
    ],
)
def test_bad_profiles(daemon: Daemon, tmp_path: Path, document: str, words: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(document)
    done = daemon.docker("run", "--rm", "--security-opt", f"seccomp={path}", "busybox", "true")
    assert done.returncode == 125 and words in done.stderr, done


def test_the_command_line_reads_the_file(daemon: Daemon, profile: Any, tmp_path: Path) -> None:
    options = profile("SCMP_ACT_ALLOW", rule("ERRNO", "mkdir", "mkdirat"))
    done = daemon.minidock("run", "--rm", *options, "busybox", "mkdir", "/x")
    assert "Operation not permitted" in done.stderr
    missing = tmp_path / "none.json"
    done = daemon.minidock("run", "--security-opt", f"seccomp={missing}", "busybox", "true")
    assert f"opening seccomp profile ({missing}) failed" in done.stderr


def test_a_compiled_filter_is_what_the_kernel_has(daemon: Daemon, profile: Any) -> None:
    """PTRACE_SECCOMP_GET_FILTER gives it back, instruction by instruction."""
    from minidock.capabilities import DEFAULT
    from minidock.seccomp import compiled
    from minidock.seccomp.default import default_filter

    container = daemon.ok("run", "-d", "busybox", "sleep", "1000").strip()
    pid = int(daemon.ok("inspect", "-f", "{{.State.Pid}}", container))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    assert libc.ptrace(16, pid, None, None) == 0  # PTRACE_ATTACH
    os.waitpid(pid, 0x40000000)
    buffer = ctypes.create_string_buffer(4096 * 8)
    length = libc.ptrace(0x420C, pid, None, buffer)
    error = ctypes.get_errno()
    libc.ptrace(17, pid, None, None)  # PTRACE_DETACH
    if length < 0 and error in (errno.EIO, errno.EINVAL, errno.EACCES):
        pytest.skip("the kernel was built without CONFIG_CHECKPOINT_RESTORE")
    assert buffer.raw[: 8 * length] == compiled(default_filter(frozenset(DEFAULT)))
