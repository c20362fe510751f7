"""The names of images: what people write, and what it stands for."""

import pytest

from minidock.errors import InvalidParameter
from minidock.spec.reference import parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("someone/app", "docker.io/someone/app:latest", "someone/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("host:5000/app", "host:5000/app:latest", "host:5000/app:latest"),
        ("host:5000/a/b/c:v1", "host:5000/a/b/c:v1", "host:5000/a/b/c:v1"),
        ("reg.example/app", "reg.example/app:latest", "reg.example/app:latest"),
        ("a__b.c-d---e", "docker.io/library/a__b.c-d---e:latest", "a__b.c-d---e:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        (f"a/b:t@{DIGEST}", f"docker.io/a/b:t@{DIGEST}", f"a/b:t@{DIGEST}"),
        ("x:" + "t" * 128, "docker.io/library/x:" + "t" * 128, "x:" + "t" * 128),
    ],
)
def test_what_a_name_stands_for(text: str, full: str, familiar: str) -> None:
    found = parse(text)
    assert str(found) == full
    assert found.familiar == familiar
    assert parse(str(found)) == found == parse(found.familiar)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "a:",
        "a@",
        "a//b",
        "/a",
        "a/",
        "-a",
        "a_",
        "a..b",
        "a___b",
        "a b",
        "a\n",
        "a:t\n",
        "a:-t",
        "a:" + "t" * 129,
        "busybox:ünï",
        "a@sha256:short",
        "../etc",
        "a/../b",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid reference format"):
        parse(text)


@pytest.mark.parametrize("text", ["Busybox", "a/B", "reg.example/App"])
def test_upper_case(text: str) -> None:
    with pytest.raises(InvalidParameter, match="must be lowercase"):
        parse(text)


def test_what_looks_like_an_id_is_no_name() -> None:
    with pytest.raises(InvalidParameter, match="cannot specify 64-byte hexadecimal strings"):
        parse("f" * 64)


def test_the_longest_name() -> None:
    assert parse("a/" + "b" * 253).path == "a/" + "b" * 253
    with pytest.raises(InvalidParameter, match="must not be more than 255 characters"):
        parse("a/" + "b" * 254)
