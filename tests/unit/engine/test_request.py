"""What was asked for: completed from the image, and refused by name where it cannot be kept."""

from types import SimpleNamespace
from typing import Any

import pytest

from minidock.engine import limits, mounts, request
from minidock.engine.updating import _asked
from minidock.errors import InvalidParameter, NotSupported

IMAGE: Any = SimpleNamespace(
    document={
        "config": {
            "Cmd": ["image-cmd"], "Entrypoint": None, "Env": ["PATH=/bin", "A=image"], "User": "image-user",
            "WorkingDir": "/image", "Labels": {"a": "image", "b": "image"}, "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGQUIT",
        }
    }
)  # fmt: skip


def complete(body: dict[str, Any], **host: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return request.complete({"Image": "x", **body, "HostConfig": host}, IMAGE)


def test_the_image_decides_what_is_left_open() -> None:
    config, host = complete({})
    assert config["Cmd"] == ["image-cmd"] and config["User"] == "image-user"
    assert config["WorkingDir"] == "/image" and config["StopSignal"] == "SIGQUIT"
    assert config["ExposedPorts"] == {"80/tcp": {}}
    assert host["RestartPolicy"]["Name"] == "no" and host["LogConfig"]["Type"] == "json-file"


def test_the_request_wins_and_adds() -> None:
    config, _ = complete(
        {
            "Cmd": ["mine"],
            "User": "me",
            "Env": ["A=mine", "B="],
            "Labels": {"a": "mine"},
            "ExposedPorts": {"1/udp": {}},
        }
    )
    assert config["Cmd"] == ["mine"] and config["User"] == "me"
    assert config["Env"] == ["PATH=/bin", "A=mine", "B="]
    assert config["Labels"] == {"a": "mine", "b": "image"}
    assert set(config["ExposedPorts"]) == {"80/tcp", "1/udp"}


def test_an_entrypoint_takes_the_images_command_away() -> None:
    config, _ = complete({"Entrypoint": ["e"]})
    assert (config["Entrypoint"], config["Cmd"]) == (["e"], None)
    with pytest.raises(InvalidParameter, match="no command specified"):
        complete({"Entrypoint": [""]})


def test_a_variable_without_a_value_is_taken_away() -> None:
    config, _ = complete({"Env": ["A"]})
    assert config["Env"] == ["PATH=/bin"]


def test_memory_implies_as_much_swap() -> None:
    assert complete({}, Memory=64 << 20)[1]["MemorySwap"] == 128 << 20
    assert complete({}, Memory=64 << 20, MemorySwap=-1)[1]["MemorySwap"] == -1
    assert complete({})[1]["MemorySwap"] == 0


def test_a_mac_address_of_the_endpoint_is_the_containers() -> None:
    wishes = {"EndpointsConfig": {"default": {"MacAddress": "02:42:00:00:00:01"}}}
    config, _ = complete({"NetworkingConfig": wishes})
    assert config["MacAddress"] == "02:42:00:00:00:01"


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"Memory": 6 * 1024 * 1024 - 1}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": -1}, "invalid memory limit"),
        ({"MemorySwap": 1}, "always set the Memory limit"),
        ({"Memory": 64 << 20, "MemorySwap": 32 << 20}, "larger than memory limit"),
        ({"Memory": 64 << 20, "MemoryReservation": 65 << 20}, "memory reservation"),
        ({"MemorySwappiness": 101}, "0-100"),
        ({"NanoCpus": 10**7 - 1}, "range of CPUs"),
        ({"NanoCpus": 10**9 * 5000}, "range of CPUs"),
        ({"NanoCpus": 10**9, "CpuPeriod": 5000}, "Nano CPUs and CPU Period"),
        ({"NanoCpus": 10**9, "CpuQuota": 5000}, "Nano CPUs and CPU Quota"),
        ({"CpuPeriod": 999}, "cfs period"),
        ({"CpuPeriod": 1000001}, "cfs period"),
        ({"CpuQuota": 999}, "cfs quota"),
        ({"CpusetCpus": "99999"}, "Requested CPUs are not available"),
        ({"CpusetCpus": "x"}, "Invalid value x for cpuset cpus"),
        ({"OomScoreAdj": 1001}, "oom score adj"),
        ({"ShmSize": -1}, "SHM size"),
        ({"NetworkMode": "nowhere"}, "network nowhere not found"),
        ({"RestartPolicy": {"Name": "x"}}, "unknown policy 'x'"),
        (
            {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 1}},
            "only be used with 'on-failure'",
        ),
        ({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}, "cannot be negative"),
        ({"RestartPolicy": {"Name": "always"}, "AutoRemove": True}, "AutoRemove"),
        ({"LogConfig": {"Type": "syslog"}}, "no log driver named 'syslog'"),
        ({"IpcMode": "x"}, "invalid IPC mode"),
        ({"Binds": ["/a:b"]}, "mount path must be absolute"),
        ({"Binds": ["/a:/"]}, "destination can't be '/'"),
        ({"Binds": ["/a:/b", "/c:/b/"]}, "Duplicate mount point: /b"),
        ({"Binds": ["/a:/b:zz"]}, "invalid mode: zz"),
    ],
)
def test_refused_in_dockers_words(host: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        complete({}, **host)


@pytest.mark.parametrize(
    "host",
    [
        {"Memory": 6 << 20}, {"NanoCpus": 10**7}, {"CpuPeriod": 1000}, {"CpuPeriod": 10**6}, {"CpuQuota": 1000},
        {"OomScoreAdj": -1000}, {"MemorySwappiness": 100}, {"CpusetCpus": "0"}, {"RestartPolicy": {"Name": ""}},
        {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}, {"NetworkMode": "container:x"},
    ],
)  # fmt: skip
def test_the_bounds_themselves_are_allowed(host: dict[str, Any]) -> None:
    complete({}, **host)


@pytest.mark.parametrize(
    ("body", "flag"),
    [
        ({"HostConfig": {"VolumesFrom": ["x"]}}, "--volumes-from"),
        ({"HostConfig": {"DeviceRequests": [{}]}}, "--gpus"),
        ({"HostConfig": {"StorageOpt": {"size": "1g"}}}, "--storage-opt"),
        ({"HostConfig": {"Annotations": {"a": "b"}}}, "--annotation"),
        (
            {"HostConfig": {"LogConfig": {"Type": "", "Config": {"max-size": "1m"}}}},
            "--log-opt max-size",
        ),
        ({"HostConfig": {"Binds": ["name:/x"]}}, "named volumes"),
        ({"Volumes": {"/x": {}}}, "anonymous volumes"),
        ({"Healthcheck": {"Test": ["CMD-SHELL", "true"]}}, "--health-cmd"),
        (
            {
                "NetworkingConfig": {
                    "EndpointsConfig": {"b": {"IPAMConfig": {"IPv4Address": "1.2.3.4"}}}
                }
            },
            "--ip ",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(body: dict[str, Any], flag: str) -> None:
    with pytest.raises(NotSupported, match=flag):
        request.complete({"Image": "x", **body}, IMAGE)


def test_no_healthcheck_is_no_healthcheck() -> None:
    complete({"Healthcheck": {"Test": ["NONE"]}})


# %% Mounts
def test_mounts_become_one_list_parents_first() -> None:
    host = {
        "Binds": ["/h:/a/b/c:ro,rslave"],
        "Mounts": [
            {"Type": "tmpfs", "Target": "/a", "TmpfsOptions": {"SizeBytes": 5, "Mode": 0o1777}}
        ],
        "Tmpfs": {"/a/t": "size=1m"},
    }
    found = mounts.mounts(host)
    assert [one["Target"] for one in found] == ["/a", "/a/t", "/a/b/c"]
    assert found[0]["Options"] == "size=5,mode=1777"
    assert (found[2]["ReadOnly"], found[2]["Propagation"], found[2]["Create"]) == (
        True,
        "rslave",
        True,
    )


def test_mount_wants_its_source() -> None:
    one = {"Type": "bind", "Source": "/not/there", "Target": "/x"}
    with pytest.raises(InvalidParameter, match="bind source path does not exist: /not/there"):
        mounts.mounts({"Binds": [], "Mounts": [one], "Tmpfs": {}})
    with pytest.raises(InvalidParameter, match="field Target must not be empty"):
        mounts.mounts({"Binds": [], "Mounts": [{"Type": "bind"}], "Tmpfs": {}})
    made = mounts.mounts(
        {"Binds": [], "Mounts": [{**one, "BindOptions": {"CreateMountpoint": True}}], "Tmpfs": {}}
    )
    assert made[0]["Create"] is True


# %% Limits, updates
@pytest.mark.parametrize(
    ("text", "numbers"), [("0", {0}), ("0-2,5", {0, 1, 2, 5}), ("", set()), ("3-2", set())]
)
def test_members(text: str, numbers: set[int]) -> None:
    assert limits.members(text) == numbers


def test_an_update_keeps_what_is_not_named() -> None:
    assert _asked({"Memory": 0, "NanoCpus": 5, "CpusetCpus": ""}) == {"NanoCpus": 5}
    assert _asked({"PidsLimit": -1}) == {"PidsLimit": None}
    assert _asked({"RestartPolicy": {"Name": ""}}) == {}
    policy = {"Name": "always", "MaximumRetryCount": 0}
    assert _asked({"RestartPolicy": {"Name": "always"}}) == {"RestartPolicy": policy}
