"""Between a program and its clients: order, framing, half-closed connections, slow ones."""

import os
import socket
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidock.cli.streams import Demultiplexer
from minidock.monitor.streams import BACKLOG, Loop, Streams


class Program:
    """Pipes as a program has them, and the streams on the other side."""

    def __init__(self, once: bool = True, stdin: bool = True) -> None:
        self.loop = Loop()
        self.streams = Streams(self.loop, None, once)
        out, self.stdout = os.pipe()
        err, self.stderr = os.pipe()
        self.stdin, into = os.pipe()
        self.streams.open({out: 1, err: 2}, into if stdin else None, terminal=False)

    def client(self, wants: tuple[int, ...] = (1, 2), stdin: bool = False) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.streams.attach(theirs, frozenset(wants), stdin)
        ours.setblocking(False)
        return ours

    def turn(self, until: Callable[[], object]) -> None:
        deadline = time.monotonic() + 5
        while not until():
            assert time.monotonic() < deadline, "it did not happen"
            self.loop.turn(0.01)

    def close_output(self) -> None:
        os.close(self.stdout)
        os.close(self.stderr)
        self.turn(lambda: not self.streams.open_sources)
        self.streams.finish()


def drain(connection: socket.socket) -> bytes:
    data = b""
    while True:
        try:
            piece = connection.recv(65536)
        except BlockingIOError:
            return data
        if not piece:
            return data
        data += piece


def sorted_out(framed: bytes) -> dict[int, bytes]:
    found = {1: b"", 2: b""}
    while framed:
        size = int.from_bytes(framed[4:8], "big")
        found[framed[0]] += framed[8 : 8 + size]
        framed = framed[8 + size :]
    return found


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=300)), max_size=15)
)
def test_each_stream_arrives_whole_and_apart(pieces: list[tuple[int, bytes]]) -> None:
    program = Program()
    both, only_errors = program.client(), program.client(wants=(2,))
    for stream, data in pieces:
        os.write(program.stdout if stream == 1 else program.stderr, data)
    program.close_output()
    expected = {s: b"".join(d for stream, d in pieces if stream == s) for s in (1, 2)}
    assert sorted_out(drain(both)) == expected
    assert sorted_out(drain(only_errors)) == {1: b"", 2: expected[2]}
    for fd in (program.stdin,):
        os.close(fd)


def test_input_reaches_the_program_and_its_end_does_too() -> None:
    program = Program(once=True)
    client = program.client(stdin=True)
    client.sendall(b"typed")
    client.shutdown(socket.SHUT_WR)
    os.set_blocking(program.stdin, False)
    seen: list[bytes] = []

    def ended() -> bool:
        try:
            seen.append(os.read(program.stdin, 100))
        except BlockingIOError:
            return False
        return seen[-1] == b""

    program.turn(ended)
    assert b"".join(seen) == b"typed"
    os.write(program.stdout, b"answer")  # a half-closed connection still hears
    program.close_output()
    assert sorted_out(drain(client))[1] == b"answer"


def test_without_once_the_input_stays_open() -> None:
    program = Program(once=False)
    first = program.client(stdin=True)
    first.sendall(b"a")
    first.close()
    for _ in range(20):
        program.loop.turn(0.001)
    second = program.client(stdin=True)
    second.sendall(b"b")
    os.set_blocking(program.stdin, False)
    seen: list[bytes] = []

    def both() -> bool:
        try:
            seen.append(os.read(program.stdin, 100))
        except BlockingIOError:
            return False
        assert seen[-1] != b"", "the input was closed with the first client"
        return b"".join(seen) == b"ab"

    program.turn(both)


def test_a_client_that_does_not_read_makes_the_program_wait_and_loses_nothing() -> None:
    program = Program()
    client = program.client()
    os.set_blocking(program.stdout, False)
    written, turns = 0, 0
    while turns < 200:
        try:
            written += os.write(program.stdout, b"x" * 4096)
            turns = 0
        except BlockingIOError:
            turns += 1
        program.loop.turn(0)
    assert BACKLOG < written < 4 * BACKLOG
    received = b""

    def all_of_it() -> bool:
        nonlocal received
        received += drain(client)
        return len(sorted_out_length(received)) == written

    def sorted_out_length(framed: bytes) -> bytes:
        return sorted_out(framed)[1] if complete(framed) else b""

    program.turn(all_of_it)


def complete(framed: bytes) -> bool:
    at = 0
    while at < len(framed):
        if len(framed) < at + 8:
            return False
        at += 8 + int.from_bytes(framed[at + 4 : at + 8], "big")
    return at == len(framed)


def test_a_client_that_has_gone_does_not_disturb_the_others() -> None:
    program = Program()
    gone, stays = program.client(), program.client()
    gone.close()
    for number in range(50):
        os.write(program.stdout, b"%d\n" % number)
        program.loop.turn(0.001)
    program.close_output()
    assert sorted_out(drain(stays))[1] == b"".join(b"%d\n" % n for n in range(50))


def test_input_for_a_program_that_does_not_want_it_is_thrown_away() -> None:
    program = Program()
    client = program.client(stdin=True)
    os.close(program.stdin)
    client.sendall(b"x" * 1000)
    for _ in range(20):
        program.loop.turn(0.001)
    client.sendall(b"y" * 1000)
    for _ in range(20):
        program.loop.turn(0.001)
    os.write(program.stdout, b"still here")
    program.close_output()
    assert sorted_out(drain(client))[1] == b"still here"


# %% The client's side of the framing
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.binary(max_size=100)), max_size=10),
    st.lists(st.integers(1, 50), min_size=1, max_size=10),
)
def test_demultiplexer_does_not_care_how_the_stream_is_cut(
    pieces: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    framed = b"".join(bytes([s, 0, 0, 0]) + len(d).to_bytes(4, "big") + d for s, d in pieces)
    shown: dict[int, bytes] = {1: b"", 2: b""}

    def note(fd: int, data: bytes) -> None:
        shown[fd] += data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minidock.cli.streams.write_all", note)
        demultiplexer, at = Demultiplexer(), 0
        while at < len(framed):
            step = cuts[at % len(cuts)]
            demultiplexer.feed(framed[at : at + step])
            at += step
    assert shown[2] == b"".join(d for s, d in pieces if s == 2)
    assert shown[1] == b"".join(d for s, d in pieces if s != 2)
