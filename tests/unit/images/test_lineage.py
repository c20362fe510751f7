"""Who descends from whom, by histories alone."""

from typing import Any

from minidock.images.image import Image
from minidock.images.lineage import Lineage
from minidock.spec.image import Descriptor, ImageConfig, Manifest, RootFS, digest_of


def image(name: str, *history: str, layers: tuple[str, ...] = ()) -> Image:
    """A step that begins with ``-`` has no layer."""
    entries: tuple[dict[str, Any], ...] = tuple(
        {"created_by": one, **({"empty_layer": True} if one[0] == "-" else {})} for one in history
    )
    diff_ids = tuple(digest_of(one.encode()) for one in layers)
    config = ImageConfig(rootfs=RootFS(diff_ids=diff_ids), history=entries)
    manifest = Manifest(2, Descriptor("", digest_of(name.encode()), 1))
    return Image(name, (), "", manifest, config, {}, diff_ids, ())


BASE = image("base", "a", "-b", layers=("A",))
CHILD = image("child", "a", "-b", "c", layers=("A", "C"))
GRANDCHILD = image("grandchild", "a", "-b", "c", "-d", layers=("A", "C"))
OTHER_LAYER = image("other", "a", "-b", "c", layers=("X", "C"))
STRANGER = image("stranger", "z", layers=("A",))
UNTOLD = image("untold", layers=("A",))


def test_parents() -> None:
    lineage = Lineage([STRANGER, GRANDCHILD, UNTOLD, BASE, OTHER_LAYER, CHILD])
    assert lineage.parent("base") == ""
    assert lineage.parent("child") == "base"
    assert lineage.parent("grandchild") == "child"
    assert lineage.parent("other") == ""
    assert lineage.parent("untold") == ""
    assert lineage.ancestors("grandchild") == {1: "base", 2: "child"}
    assert [one for one in ("base", "child", "grandchild") if lineage.has_children(one)] == [
        "base",
        "child",
    ]


def test_one_that_is_missing_in_the_middle() -> None:
    lineage = Lineage([GRANDCHILD, BASE])
    assert lineage.parent("grandchild") == "base"
    assert lineage.parent("nobody") == ""
