"""The index of the store: names move, and what loses its name stays."""

from pathlib import Path

from minidock.images.store import Store, reference_of
from minidock.spec.image import MANIFEST, Descriptor

A, B = (Descriptor(MANIFEST, f"sha256:{letter * 64}", 1) for letter in "ab")


def index(store: Store) -> list[tuple[str, str | None]]:
    return [(str(one["digest"])[7], reference_of(one)) for one in store.manifests()]


def test_names_move_and_the_loser_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.name(A, "one")
    store.name(B, "one")
    assert index(store) == [("a", None), ("b", "one")]
    store.name(A, "two")
    assert index(store) == [("b", "one"), ("a", "two")]
    store.name(A, None)
    store.name(A, "two")
    assert index(store) == [("b", "one"), ("a", "two")]
    store.name(A, "one")
    assert index(store) == [("b", None), ("a", "two"), ("a", "one")]


def test_unname_and_forget(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("one", "two", "three"):
        store.name(A, name)
    store.unname(["one"])
    assert index(store) == [("a", "two"), ("a", "three")]
    store.unname(["two", "three"])
    assert index(store) == [("a", None)]
    store.name(B, "other")
    store.forget([A.digest])
    assert index(store) == [("b", "other")]
