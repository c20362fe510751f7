"""The filters of `docker images`, against what Go's path.Match and dockerd do."""

from typing import Any

import pytest

from minidock.errors import InvalidParameter, NotFound
from minidock.images.image import Image
from minidock.images.listing import select
from minidock.spec.codec import decode
from minidock.spec.image import Descriptor, ImageConfig, Manifest


def image(number: int, *names: str, **config: Any) -> Image:
    document = {"created": f"2024-01-0{number}T00:00:00Z", "config": config}
    digest = f"sha256:{number:064}"
    manifest = Manifest(2, Descriptor("", digest, 1))
    full = tuple(f"docker.io/library/{name}" for name in names)
    return Image(digest, full, digest, manifest, decode(ImageConfig, document), document, (), ())


ONE = image(1, "app:1", Labels={"stage": "test", "empty": ""})
TWO = image(2, "app:2", "other:1", Labels={"stage": "live"})
NONE = image(3)
ALL = [NONE, TWO, ONE]


def find(name: str) -> Image:
    for one in ALL:
        if name in one.tags or name == one.id:
            return one
    raise NotFound(f"No such image: {name}")


def numbers(**filters: list[str]) -> list[int]:
    return [int(one.id[7:]) for one in select(ALL, filters, find)]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, [3, 2, 1]),
        ({"dangling": ["true"]}, [3]),
        ({"dangling": ["0"]}, [2, 1]),
        ({"label": ["stage"]}, [2, 1]),
        ({"label": ["stage=live"]}, [2]),
        ({"label": ["empty="]}, [1]),
        ({"label": ["stage", "empty"]}, [1]),
        ({"label": ["nothing"]}, []),
        ({"before": ["app:2"]}, [1]),
        ({"since": ["app:2"]}, [3]),
        ({"since": ["app:1"], "before": [NONE.id]}, [2]),
        ({"reference": ["app"]}, [2, 1]),
        ({"reference": ["app:1"]}, [1]),
        ({"reference": ["app:[2-9]"]}, [2]),
        ({"reference": ["app:[^2]"]}, [1]),
        ({"reference": ["???:1"]}, [1]),
        ({"reference": ["app:1", "other"]}, [2, 1]),
        ({"reference": ["a*"], "dangling": ["true"]}, []),
        ({"reference": ["nothing"]}, []),
    ],
)
def test_filters(filters: dict[str, list[str]], wanted: list[int]) -> None:
    assert numbers(**filters) == wanted


def test_only_the_names_that_fit_are_shown() -> None:
    (found,) = select(ALL, {"reference": ["other"]}, find)
    assert found.tags == ["other:1"]


def test_a_star_stops_at_a_slash() -> None:
    deep = image(4, "x")
    deep = Image(deep.id, ("docker.io/me/app:1", "host.example:5000/a/b:1"), *_rest(deep))
    names = {
        "*": [], "*/*": ["me/app:1"], "*/*/*": ["host.example:5000/a/b:1"], "me/*": ["me/app:1"],
        "host.example:5000/a/b": ["host.example:5000/a/b:1"], "me\\/app": ["me/app:1"],
    }  # fmt: skip
    for pattern, wanted in names.items():
        found = select([deep], {"reference": [pattern]}, find)
        assert [tag for one in found for tag in one.tags] == wanted, pattern


def _rest(one: Image) -> Any:
    return one.manifest_digest, one.manifest, one.config, one.document, one.chains, one.sizes


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"colour": ["red"]}, "invalid filter 'colour'"),
        ({"dangling": ["maybe"]}, "invalid filter 'dangling=[maybe]'"),
        ({"dangling": ["true", "false"]}, "invalid filter 'dangling=[true false]'"),
        ({"reference": ["[a"]}, "syntax error in pattern"),
        ({"reference": ["a\\"]}, "syntax error in pattern"),
    ],
)
def test_bad_filters(filters: dict[str, list[str]], words: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        select(ALL, filters, find)
    assert words in str(caught.value)


def test_a_limit_that_is_not_there() -> None:
    with pytest.raises(NotFound, match="No such image: gone"):
        select(ALL, {"before": ["gone"]}, find)
