"""Lines of a Dockerfile that change how an image runs."""

import pytest

from minidock.errors import InvalidParameter
from minidock.images.changes import apply
from minidock.images.words import expand, words
from minidock.spec.image import Execution


# %% Words
@pytest.mark.parametrize(
    "text, expected",
    [
        ("a  b\tc", ["a", "b", "c"]),
        ('a="b c" d', ['a="b c"', "d"]),
        ("a='b c' d", ["a='b c'", "d"]),
        (r"a\ b c", [r"a\ b", "c"]),
        (r'"a\"b" c', [r'"a\"b"', "c"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize("text", ['a "b', "a 'b", '"'])
def test_an_open_quote(text: str) -> None:
    with pytest.raises(InvalidParameter, match="matching quote"):
        words(text)


VARIABLES = {"A": "1", "B": "two words", "EMPTY": ""}


@pytest.mark.parametrize(
    "word, expected",
    [
        ("$A", "1"),
        ("x${A}y", "x1y"),
        ("$B", "two words"),
        ('"$A b"', "1 b"),
        ("'$A b'", "$A b"),
        (r"\$A", "$A"),
        (r'"\$A"', "$A"),
        (r'"\n"', r"\n"),
        ('"it\'s $A"', "it's 1"),
        ("${NONE:-x$A}", "x1"),
        ("${EMPTY:-x}", "x"),
        ("${A:-x}", "1"),
        ("${A:+x}", "x"),
        ("${NONE:+x}", ""),
        ("$NONE", ""),
        (r"a\ b", "a b"),
    ],
)
def test_variables_and_quotes(word: str, expected: str) -> None:
    assert expand(word, VARIABLES) == expected


# %% Instructions
BASE = Execution(
    env=("PATH=/bin", "A=1"),
    cmd=("sh",),
    working_dir="/srv",
    labels={"old": "1"},
    exposed_ports={"1/tcp": {}},
    volumes={"/v": {}},
    on_build=("RUN old",),
)


@pytest.mark.parametrize(
    "line, field, expected",
    [
        ('CMD ["a", "b"]', "cmd", ("a", "b")),
        ("CMD a b", "cmd", ("/bin/sh", "-c", "a b")),
        ("cmd [not json", "cmd", ("/bin/sh", "-c", "[not json")),
        ('ENTRYPOINT ["a"]', "entrypoint", ("a",)),
        ('ENTRYPOINT ["a"]', "cmd", ()),
        ("ENV A=2 B=3", "env", ("PATH=/bin", "A=2", "B=3")),
        ("ENV PATH=$PATH:/x", "env", ("PATH=/bin:/x", "A=1")),
        ("ENV B some words", "env", ("PATH=/bin", "A=1", "B=some words")),
        ("ENV B='$A'", "env", ("PATH=/bin", "A=1", "B=$A")),
        ("LABEL a.b=c new='d e'", "labels", {"old": "1", "a.b": "c", "new": "d e"}),
        ("EXPOSE 80 53/udp", "exposed_ports", {"1/tcp": {}, "80/tcp": {}, "53/udp": {}}),
        ("EXPOSE 8-9", "exposed_ports", {"1/tcp": {}, "8/tcp": {}, "9/tcp": {}}),
        ("EXPOSE $A", "exposed_ports", {"1/tcp": {}}),
        ("VOLUME /a /b", "volumes", {"/v": {}, "/a": {}, "/b": {}}),
        ('VOLUME ["/a b"]', "volumes", {"/v": {}, "/a b": {}}),
        ("USER me:us", "user", "me:us"),
        ("WORKDIR /x", "working_dir", "/x"),
        ("WORKDIR x/../y", "working_dir", "/srv/y"),
        ("STOPSIGNAL SIGQUIT", "stop_signal", "SIGQUIT"),
        ("STOPSIGNAL 9", "stop_signal", "9"),
        ("STOPSIGNAL RTMIN+3", "stop_signal", "RTMIN+3"),
        ('SHELL ["/bin/bash", "-c"]', "shell", ("/bin/bash", "-c")),
        ("ONBUILD RUN new", "on_build", ("RUN old", "RUN new")),
        ("HEALTHCHECK NONE", "healthcheck", {"Test": ["NONE"]}),
        ("HEALTHCHECK CMD a b", "healthcheck", {"Test": ["CMD-SHELL", "a b"]}),
        (
            'HEALTHCHECK --interval=1m30s --timeout=500ms --retries=2 CMD ["a"]',
            "healthcheck",
            {
                "Test": ["CMD", "a"],
                "Interval": 90_000_000_000,
                "Timeout": 500_000_000,
                "Retries": 2,
            },
        ),
    ],
)
def test_each_instruction(line: str, field: str, expected: object) -> None:
    assert getattr(apply([line], BASE), field) == expected


def test_one_after_the_other() -> None:
    run = apply(['SHELL ["/bin/x"]', "CMD a", "ENV B=$A", "ENV C=$B", "WORKDIR $C"], BASE)
    assert (run.cmd, run.working_dir) == (("/bin/x", "a"), "/srv/1")


@pytest.mark.parametrize("order", [1, -1])
def test_an_entrypoint_takes_away_only_the_old_command(order: int) -> None:
    lines = ['CMD ["new"]', 'ENTRYPOINT ["e"]'][::order]
    assert apply(lines, BASE).cmd == ("new",)


def test_lines_in_one_piece() -> None:
    run = apply(["# nothing\nENV B=2 \\\n  C=3\n\nUSER me"], Execution())
    assert (run.env, run.user) == (("B=2", "C=3"), "me")


@pytest.mark.parametrize(
    "line, words_",
    [
        ("RUN x", "RUN is not a valid change command"),
        ("FROM x", "FROM is not a valid change command"),
        ("CMD", "CMD requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "can't find = in 'B'"),
        ("LABEL =x", "LABEL names can not be blank"),
        ("EXPOSE http", "invalid containerPort: http"),
        ("EXPOSE 80/x", "invalid proto: x"),
        ("EXPOSE 9-8", "invalid range"),
        ("EXPOSE 70000", "invalid containerPort"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("USER a b", "USER requires exactly one argument"),
        ("STOPSIGNAL SIGNONE", "Invalid signal: SIGNONE"),
        ("SHELL sh", "SHELL requires the arguments to be in JSON form"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK x", "Unknown type 'x' in HEALTHCHECK"),
        ("HEALTHCHECK --interval=x CMD y", "invalid duration"),
        ("HEALTHCHECK --often=1s CMD y", "bad flag --often=1s"),
    ],
)
def test_what_makes_no_sense(line: str, words_: str) -> None:
    with pytest.raises(InvalidParameter, match=words_.replace("[", r"\[")):
        apply([line], BASE)
