"""Platforms: what people write, and the best entry of an index."""

import pytest

from minidock.errors import InvalidParameter, NotFound
from minidock.spec.image import Descriptor, architecture
from minidock.spec.platform import Platform, choose, parse


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/x86_64", Platform("linux", "amd64")),
        ("Linux/AArch64", Platform("linux", "arm64")),
        ("linux/arm64/v8", Platform("linux", "arm64", "v8")),
        ("linux/arm/v6", Platform("linux", "arm", "v6")),
        ("armhf", Platform("linux", "arm", "v7")),
        ("386", Platform("linux", "386")),
        ("linux", Platform("linux", architecture())),
    ],
)
def test_parse(text: str, found: Platform) -> None:
    assert parse(text) == found


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "li nux/x", "../x"])
def test_nonsense(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse(text)


def entry(os: str, machine: str, variant: str = "") -> Descriptor:
    number = abs(hash((os, machine, variant))) % 16**8
    platform = {"os": os, "architecture": machine, **({"variant": variant} if variant else {})}
    return Descriptor("x", f"sha256:{number:064x}", 1, platform=platform)


def test_choose() -> None:
    v5, v6, v7 = (entry("linux", "arm", variant) for variant in ("v5", "v6", "v7"))
    arm64, windows = entry("linux", "arm64"), entry("windows", "arm64")
    unknown = entry("unknown", "unknown")
    everything = [unknown, windows, v5, v7, v6, arm64]
    assert choose(everything, Platform("linux", "arm64")) == arm64
    assert choose(everything, Platform("linux", "arm64", "v8")) == arm64
    assert choose(everything, Platform("linux", "arm", "v6")) == v6
    assert choose([v5, v6], Platform("linux", "arm", "v7")) == v6
    assert choose(everything, Platform("linux", "arm")) == v7
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x in the manifest list"):
        choose(everything, Platform("linux", "s390x"))
    with pytest.raises(NotFound):
        choose([v7], Platform("linux", "arm", "v6"))
