"""What a configuration must not ask for; and the published schema as a second opinion."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing
from referencing.jsonschema import DRAFT4

from minidock.errors import InvalidParameter
from minidock.runtime import features, template, validation
from minidock.spec.codec import decode
from minidock.spec.runtime import Spec

# Where the published schema lies; without it those tests are skipped.
SCHEMA = Path(os.environ.get("OCI_RUNTIME_SCHEMA", "/work/shared/data/oci-runtime-schema/schema"))


def change(**changes: Any) -> dict[str, Any]:
    """What ``spec`` writes, with ``process__cwd="x"`` changed, or with None taken out."""
    document = json.loads(json.dumps(template.standard()))
    for path, value in changes.items():
        *above, last = path.split("__")
        place = document
        for name in above:
            place = place.setdefault(name, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return document


def check(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir(exist_ok=True)
    validation.check(decode(Spec, document), str(tmp_path))


def namespaces(*kinds: str) -> list[dict[str, str]]:
    return [{"type": kind} for kind in kinds]


MAPS = [{"containerID": 0, "hostID": 0, "size": 1}]

# %% Against the schema: types, and what is required
ILL_FORMED: list[tuple[dict[str, Any], str]] = [
    ({"ociVersion": None}, "ociVersion"),
    ({"process__cwd": None}, "cwd"),
    ({"process__cwd": 7}, "process.cwd: expected a string"),
    ({"process__args": "sh"}, "process.args: expected an array"),
    ({"process__args": ["sh", 1]}, "process.args[1]"),
    ({"process__user": {"uid": "root", "gid": 0}}, "process.user.uid"),
    ({"process__rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1}]}, "hard"),
    ({"root": {"readonly": True}}, "root.path"),
    ({"root__readonly": "yes"}, "root.readonly: expected true or false"),
    ({"mounts": [{"type": "proc"}]}, "destination"),
    ({"mounts": {"destination": "/"}}, "mounts: expected an array"),
    ({"hostname": 5}, "hostname"),
    ({"linux__namespaces": [{"path": "/x"}]}, "type"),
    ({"linux__namespaces": ["pid"]}, "linux.namespaces[0]: expected an object"),
    ({"linux__sysctl": {"net.core.somaxconn": 1}}, "linux.sysctl"),
    ({"linux__uidMappings": [{"containerID": 0}]}, "linux.uidMappings[0]"),
    ({"linux__devices": [{"type": "c"}]}, "path"),
    ({"linux__maskedPaths": "/proc"}, "maskedPaths"),
    ({"linux__resources": {"pids": {"limit": "many"}}}, "limit"),
    ({"hooks": {"poststop": [{"args": ["x"]}]}}, "path"),
    ({"hooks": {"prestart": [{"path": "/x", "timeout": "1s"}]}}, "timeout"),
    ({"annotations": {"key": 1}}, "annotations"),
]


def validator_of(name: str) -> Any:
    """A schema, read where it lies; it is not part of this project."""
    if not SCHEMA.is_dir():
        pytest.skip("the OCI runtime schema is not here")
    documents = {path.name: json.loads(path.read_text()) for path in SCHEMA.glob("*.json")}
    for document in documents.values():
        document.pop("id", None)  # by which it would be looked for on the network
    registry: Any = referencing.Registry().with_resources(
        (one, referencing.Resource.from_contents(document, DRAFT4))
        for one, document in documents.items()
    )
    return jsonschema.Draft4Validator(documents[name], registry=registry)


@pytest.fixture(scope="module")
def validator() -> Any:
    """That of ``config.json``."""
    return validator_of("config-schema.json")


@pytest.mark.parametrize(("changes", "word"), ILL_FORMED)
def test_ill_formed(changes: dict[str, Any], word: str, tmp_path: Path, validator: Any) -> None:
    """The schema and we refuse the same; ours says which property, in one line."""
    document = change(**changes)
    assert list(validator.iter_errors(document))
    with pytest.raises(InvalidParameter) as caught:
        check(document, tmp_path)
    assert word in str(caught.value) and "\n" not in str(caught.value)


def test_the_templates_are_well_formed(tmp_path: Path, validator: Any) -> None:
    """What ``spec`` writes."""
    for document in (template.standard(), template.rootless()):
        assert not list(validator.iter_errors(document))
        check(copy.deepcopy(document), tmp_path)


def test_features_are_well_formed() -> None:
    """What ``features`` prints, against its schema."""
    found = features.features()
    assert not list(validator_of("features-schema.json").iter_errors(found))
    assert {"idmap", "rro", "tmpcopyup"} <= set(found["mountOptions"])


# %% What is well formed and makes no sense
NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"ociVersion": "2.0.0"}, "only 1.x"),
    ({"process": None}, "process property must not be empty"),
    ({"process__cwd": "relative"}, "Cwd must be an absolute path"),
    ({"process__args": []}, "args must not be empty"),
    ({"process__env": ["NOVALUE"]}, "NAME=VALUE"),
    ({"process__rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}, "wrong rlimit value"),
    ({"process__rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2}, "given twice"),
    ({"process__oomScoreAdj": 1001}, "oomScoreAdj"),
    ({"process__scheduler": {"policy": "SCHED_BEST"}}, "process.scheduler.policy"),
    ({"process__ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 9}}, "ioPriority"),
    ({"process__selinuxLabel": "a:b"}, "selinux"),
    ({"root": None}, "root must be specified"),
    ({"root__path": "nowhere"}, "invalid rootfs"),
    ({"linux__namespaces": namespaces("mount")}, "private UTS namespace"),
    ({"linux__namespaces": namespaces("uts", "pid")}, "private MNT namespace"),
    ({"linux__namespaces": namespaces("mount", "uts", "mount")}, "mount is given twice"),
    ({"linux__namespaces": namespaces("mount", "uts", "moon")}, "unknown type 'moon'"),
    ({"linux__namespaces": namespaces("mount", "uts", "user")}, "no uid mappings found"),
    ({"linux__uidMappings": MAPS}, "user namespace isn't enabled"),
    ({"linux__timeOffsets": {"monotonic": {"secs": 1}}}, "time namespace isn't enabled"),
    ({"linux__sysctl": {"kernel.panic": "1"}}, "not in a separate kernel namespace"),
    ({"linux__sysctl": {"kernel.hostname": "x"}}, "conflicts"),
    ({"linux__devices": [{"type": "z", "path": "/dev/z"}]}, "unknown type 'z'"),
    ({"linux__devices": [{"type": "c", "path": "dev/z"}]}, "is not absolute"),
    ({"linux__intelRdt": {"closID": "x"}}, "Intel RDT"),
    ({"linux__mountLabel": "a:b"}, "selinux"),
    ({"hooks": {"prestart": [{"path": "relative"}]}}, "is not absolute"),
    ({"hooks": {"prestart": [{"path": "/x", "timeout": 0}]}}, "greater than zero"),
]


@pytest.mark.parametrize(("changes", "word"), NONSENSE)
def test_nonsense(changes: dict[str, Any], word: str, tmp_path: Path) -> None:
    """One line that says what."""
    with pytest.raises(InvalidParameter) as caught:
        check(change(**changes), tmp_path)
    assert word in str(caught.value) and "\n" not in str(caught.value)


def test_sysctls_need_the_namespace_they_belong_to(tmp_path: Path) -> None:
    """The host's own, by path, is none."""
    wanted = {"linux__sysctl": {"net.ipv4.ip_forward": "1", "kernel.shmmax": "1"}}
    check(change(**wanted), tmp_path)
    for kind, word in (("network", "host network namespace"), ("ipc", "hosts ipc namespace")):
        kinds = [one for one in ("mount", "uts", "network", "ipc") if one != kind]
        with pytest.raises(InvalidParameter, match=word):
            check(change(**wanted, linux__namespaces=namespaces(*kinds)), tmp_path)
    own = [*namespaces("mount", "uts", "ipc"), {"type": "network", "path": "/proc/self/ns/net"}]
    with pytest.raises(InvalidParameter, match="host network namespace"):
        check(change(**wanted, linux__namespaces=own), tmp_path)


def test_systemd_s_names_are_no_paths() -> None:
    with pytest.raises(InvalidParameter, match="systemd unit"):
        validation.check_cgroup_path("system.slice:prefix:name")
    validation.check_cgroup_path("/a/b")
    validation.check_cgroup_path("")
