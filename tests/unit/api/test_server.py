"""HTTP: what may be in one packet, what may be cut anywhere, and what is nonsense."""

import io
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidock import errors
from minidock.api.prefix import without_version
from minidock.api.status import status_of
from minidock.body import Body
from minidock.client import Answer, Client, error_of
from minidock.errors import InvalidParameter
from minidock.server import Connection, Request, Response, pattern


class Served:
    """A connection whose requests ``handler`` answers, in a thread."""

    def __init__(self, handler: Any) -> None:
        self.client, server = socket.socketpair()
        self.client.settimeout(5)
        self.thread = threading.Thread(target=Connection(server, handler, {"Server": "x"}).serve)
        self.thread.start()

    def say(self, data: bytes) -> bytes:
        self.client.sendall(data)
        self.client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := self.client.recv(65536):
            answer += piece
        self.thread.join(5)
        self.client.close()
        return answer


def echo(request: Request) -> Response:
    return Response(json={"method": request.method, "path": request.path, "body": request.json()})


def test_requests_one_after_the_other_on_one_connection() -> None:
    body = b'{"a": 1}'
    one = b"POST /x HTTP/1.1\r\nContent-Length: 8\r\n\r\n" + body
    two = b"POST /y HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n0\r\n\r\n"
    answer = Served(echo).say(one + two)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert b'"path": "/x"' in answer and b'"path": "/y"' in answer


def test_what_a_handler_does_not_read_is_not_taken_for_a_request() -> None:
    def deaf(request: Request) -> Response:
        return Response(text="ok")

    data = b"POST /x HTTP/1.1\r\nContent-Length: 30\r\n\r\nGET /evil HTTP/1.1\r\n\r\n        GET /y HTTP/1.1\r\n\r\n"
    assert Served(deaf).say(data).count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"nonsense\r\n\r\n", b"not an HTTP request"),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"bad Content-Length"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"bad or too many headers"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 70000 + b"\r\n\r\n", b"bad or too many headers"),
    ],
)
def test_nonsense_is_answered_once_and_the_connection_closed(data: bytes, words: bytes) -> None:
    answer = Served(echo).say(data + b"GET /after HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request") and words in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_a_stream_sends_its_head_first_and_ends_with_an_empty_chunk() -> None:
    def stream(request: Request) -> Response:
        return Response(pieces=iter([b"one", b"", b"two" * 10]))

    answer = Served(stream).say(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head and b"Content-Length" not in head
    assert body in (b"3\r\none\r\n1e\r\n" + b"two" * 10 + b"\r\n0\r\n\r\n", b"3\r\none\r\n")


def test_head_has_the_length_and_no_body() -> None:
    answer = Served(lambda _: Response(text="OK")).say(
        b"HEAD /_ping HTTP/1.1\r\nConnection: close\r\n\r\n"
    )
    assert answer.endswith(b"\r\n\r\n") and b"Content-Length: 2" in answer


def test_204_and_304_have_no_body() -> None:
    for status in (204, 304):
        answer = Served(lambda _, s=status: Response(s)).say(
            b"POST / HTTP/1.1\r\nConnection: close\r\n\r\n"
        )
        assert b"Content-Length" not in answer and answer.endswith(b"\r\n\r\n")


def test_bytes_in_the_packet_of_the_head_belong_to_the_stream() -> None:
    taken: list[Any] = []

    def take(request: Request) -> Response:
        taken.append(request.connection.hijack(request, "raw"))
        return Response(taken=True)

    served = Served(take)
    served.client.sendall(
        b"POST /attach HTTP/1.1\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\nfirst keys"
    )
    head = served.client.recv(65536)
    served.thread.join(5)
    connection, early = taken[0]
    assert head.startswith(b"HTTP/1.1 101 UPGRADED") and early == b"first keys"
    connection.sendall(b"output")
    assert served.client.recv(100) == b"output"
    connection.close()
    served.client.close()


# %% Bodies
@given(st.lists(st.binary(min_size=1, max_size=100), max_size=8), st.integers(1, 64))
def test_a_chunked_body_however_it_is_read(pieces: list[bytes], step: int) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\nnext"
    source = io.BufferedReader(cast(Any, io.BytesIO(data)))
    body, found = Body(cast(Any, source), 0, chunked=True), b""
    while piece := body.read(step):
        assert len(piece) <= step
        found += piece
    assert found == b"".join(pieces)
    assert source.read() == b"next"


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_a_body_of_known_length_leaves_what_follows(content: bytes, after: bytes) -> None:
    source = io.BufferedReader(cast(Any, io.BytesIO(content + after)))
    assert Body(cast(Any, source), len(content), chunked=False).read() == content
    assert source.read() == after


@pytest.mark.parametrize("data", [b"5\r\nab", b"x\r\n", b"-1\r\n", b""])
def test_a_truncated_or_bad_body_is_an_error(data: bytes) -> None:
    source = io.BufferedReader(cast(Any, io.BytesIO(data)))
    with pytest.raises(InvalidParameter):
        Body(cast(Any, source), 0, chunked=True).read()


def request(query: dict[str, str], body: bytes = b"") -> Request:
    source = io.BufferedReader(cast(Any, io.BytesIO(body)))
    return Request(
        "GET", "/", query, {}, Body(cast(Any, source), len(body), False), cast(Any, None)
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("true", True), ("yes", True), ("0", False), ("", False), ("False", False), ("no", False), ("none", False)],
)  # fmt: skip
def test_flags_of_the_query(text: str, value: bool) -> None:
    assert request({"x": text}).flag("x") is value
    assert request({}).flag("x", True) is True


def test_numbers_filters_and_json() -> None:
    assert request({"t": "-1"}).number("t") == -1 and request({"t": ""}).number("t", 7) == 7
    with pytest.raises(InvalidParameter, match='invalid value "x" for t'):
        request({"t": "x"}).number("t")
    assert request({"filters": '{"a": ["b"], "c": {"d": true}}'}).filters() == {
        "a": ["b"],
        "c": ["d"],
    }
    for bad in ("[1]", "x", '{"a": 1}'):
        with pytest.raises(InvalidParameter, match="invalid filters"):
            request({"filters": bad}).filters()
    for nothing in (b"  ", b"null\n"):  # Go's clients send a null where they have nothing to say
        assert request({}, nothing).json() == {}
    for bad_body in (b"[1]", b"{"):
        with pytest.raises(InvalidParameter, match="the request's body"):
            request({}, bad_body).json()


# %% Routes, statuses
def test_patterns() -> None:
    one, images = pattern("/containers/{ref}/json"), pattern("/images/{name*}/json")
    assert one.match("/containers/a.b-c/json") and not one.match("/containers/a/b/json")
    match = images.match("/images/localhost:5000/a/b/json")
    assert match and match.group(1) == "localhost:5000/a/b"


def test_versions() -> None:
    assert without_version("/v1.24/info") == without_version("/v1.47/info") == "/info"
    assert without_version("/info") == "/info" and without_version("/volumes") == "/volumes"
    with pytest.raises(InvalidParameter, match="1.999 is too new"):
        without_version("/v1.999/info")
    with pytest.raises(InvalidParameter, match="1.9 is too old"):
        without_version("/v1.9/info")


def test_every_kind_of_error_has_a_status_and_comes_back_as_itself() -> None:
    kinds = [errors.InvalidParameter, errors.NotFound, errors.Conflict, errors.NotModified]
    kinds += [errors.Forbidden, errors.NotSupported, errors.Unavailable]
    for kind in kinds:
        back = error_of(status_of(kind("x")), json.dumps({"message": "words"}).encode())
        assert type(back) is kind and str(back) == "words" and back.from_daemon
    assert (
        status_of(errors.CommandNotFound("x")) == status_of(errors.CommandNotExecutable("x")) == 400
    )
    assert status_of(OSError("x")) == 500 and status_of(errors.HostileArchive("x")) == 403


def test_an_answer_that_is_no_json_is_shown_as_it_is() -> None:
    assert str(error_of(500, b"plain words\n")) == "plain words"
    assert str(error_of(500, b'["list"]')) == '["list"]'


# %% The client's end
@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=80), max_size=6))
def test_the_client_reads_what_the_server_streams(pieces: list[bytes]) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
    answer = Answer(
        200,
        {"transfer-encoding": "chunked"},
        cast(Any, io.BufferedReader(cast(Any, io.BytesIO(data)))),
        cast(Any, None),
    )
    assert b"".join(answer.pieces()) == b"".join(pieces)


@given(st.lists(st.sampled_from([b'{"a":1}', b"\n", b'{"b"', b":2}\n", b"\r\n"]), max_size=10))
def test_lines_however_they_are_cut(pieces: list[bytes]) -> None:
    answer = Answer(200, {}, cast(Any, None), cast(Any, None))
    answer.pieces = lambda: iter(pieces)  # type: ignore[method-assign]
    expected = [line for line in b"".join(pieces).split(b"\n") if line.strip()]
    assert list(answer.lines()) == expected


def hijacking(first: bytes) -> Iterator[tuple[socket.socket, bytes]]:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n" + first)
    yield Client(ours).hijack("/attach")
    theirs.close()


@pytest.mark.parametrize("first", [b"", b"said at once", b"x" * 5000])
def test_the_first_bytes_of_a_stream_are_not_lost(first: bytes) -> None:
    for connection, early in hijacking(first):
        rest = b""
        connection.setblocking(False)
        while len(early + rest) < len(first):
            rest += connection.recv(65536)
        assert early + rest == first
        connection.close()
