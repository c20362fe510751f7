"""The flags of ``run`` and ``create``.

All of Docker's: also those that this engine cannot honour. They are put
into the request like any other, and the daemon refuses them by name; a
command line that did not know them could only say "unknown flag".

**Interface:** :data:`OPTIONS`.

**See:** docker/cli ``cli/command/container/opts.go``.
"""

from __future__ import annotations

from minidock.cli import values
from minidock.cli.flags import Flag, swap_size


def _mount(text: str) -> object:
    from minidock.cli.mounts import mount

    return mount(text)


# %% Who and where: names, streams, the image's own settings
_PROCESS = [
    Flag("attach", "a", "list", "Attach to STDIN, STDOUT or STDERR", convert=values.stream),
    Flag("annotation", "", "map", "Add an annotation to the container"),
    Flag("cidfile", "", "string", "Write the container ID to the file"),
    Flag("entrypoint", "", "string", "Overwrite the default ENTRYPOINT of the image"),
    Flag("env", "e", "list", "Set environment variables", convert=values.variable),
    Flag("env-file", "", "list", "Read in a file of environment variables"),
    Flag("group-add", "", "list", "Add additional groups to join"),
    Flag("init", "", "bool", "Run an init inside the container that forwards signals and reaps processes"),
    Flag("interactive", "i", "bool", "Keep STDIN open even if not attached"),
    Flag("label", "l", "list", "Set meta data on a container", convert=values.label),
    Flag("label-file", "", "list", "Read in a line delimited file of labels"),
    Flag("log-driver", "", "string", "Logging driver for the container"),
    Flag("log-opt", "", "list", "Log driver options"),
    Flag("name", "", "string", "Assign a name to the container"),
    Flag("platform", "", "string", "Set platform if server is multi-platform capable"),
    Flag("pull", "", "string", 'Pull image before creating ("always", "missing", "never")', "missing"),
    Flag("quiet", "q", "bool", "Suppress the pull output"),
    Flag("restart", "", "string", "Restart policy to apply when a container exits", "no"),
    Flag("rm", "", "bool", "Automatically remove the container when it exits"),
    Flag("runtime", "", "string", "Runtime to use for this container"),
    Flag("stop-signal", "", "string", "Signal to stop the container"),
    Flag("stop-timeout", "", "int", "Timeout (in seconds) to stop a container"),
    Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
    Flag("user", "u", "string", "Username or UID (format: <name|uid>[:<group|gid>])"),
    Flag("workdir", "w", "string", "Working directory inside the container"),
    Flag("health-cmd", "", "string", "Command to run to check health"),
    Flag("health-interval", "", "duration", "Time between running the check (ms|s|m|h)"),
    Flag("health-retries", "", "int", "Consecutive failures needed to report unhealthy"),
    Flag("health-start-interval", "", "duration", "Time between running the check during the start period (ms|s|m|h)"),
    Flag("health-start-period", "", "duration", "Start period before starting health-retries countdown (ms|s|m|h)"),
    Flag("health-timeout", "", "duration", "Maximum time to allow one check to run (ms|s|m|h)"),
    Flag("no-healthcheck", "", "bool", "Disable any container-specified HEALTHCHECK"),
]  # fmt: skip


# %% What it may do, and with which namespaces
_SECURITY = [
    Flag("cap-add", "", "list", "Add Linux capabilities"),
    Flag("cap-drop", "", "list", "Drop Linux capabilities"),
    Flag("cgroup-parent", "", "string", "Optional parent cgroup for the container"),
    Flag("cgroupns", "", "string", "Cgroup namespace to use (host|private)"),
    Flag("device", "", "list", "Add a host device to the container"),
    Flag("device-cgroup-rule", "", "list", "Add a rule to the cgroup allowed devices list", convert=values.device_rule),
    Flag("disable-content-trust", "", "bool", "Skip image verification", True),
    Flag("gpus", "", "gpu-request", "GPU devices to add to the container ('all' to pass all GPUs)", convert=values.gpus),
    Flag("ipc", "", "string", "IPC mode to use"),
    Flag("isolation", "", "string", "Container isolation technology"),
    Flag("pid", "", "string", "PID namespace to use"),
    Flag("privileged", "", "bool", "Give extended privileges to this container"),
    Flag("security-opt", "", "list", "Security Options"),
    Flag("sysctl", "", "map", "Sysctl options", convert=values.sysctl),
    Flag("userns", "", "string", "User namespace to use"),
    Flag("uts", "", "string", "UTS namespace to use"),
]  # fmt: skip


# %% The network
_NETWORK = [
    Flag("add-host", "", "list", "Add a custom host-to-IP mapping (host:ip)", convert=values.extra_host),
    Flag("dns", "", "list", "Set custom DNS servers", convert=values.address),
    Flag("dns-option", "", "list", "Set DNS options"),
    Flag("dns-opt", "", "list"),
    Flag("dns-search", "", "list", "Set custom DNS search domains", convert=values.domain),
    Flag("domainname", "", "string", "Container NIS domain name"),
    Flag("expose", "", "list", "Expose a port or a range of ports"),
    Flag("hostname", "h", "string", "Container host name"),
    Flag("ip", "", "string", "IPv4 address (e.g., 172.30.100.104)"),
    Flag("ip6", "", "string", "IPv6 address (e.g., 2001:db8::33)"),
    Flag("link", "", "list", "Add link to another container", convert=values.link),
    Flag("link-local-ip", "", "list", "Container IPv4/IPv6 link-local addresses"),
    Flag("mac-address", "", "string", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    Flag("network", "", "network", "Connect a container to a network"),
    Flag("net", "", "network"),
    Flag("network-alias", "", "list", "Add network-scoped alias for the container"),
    Flag("net-alias", "", "list"),
    Flag("publish", "p", "list", "Publish a container's port(s) to the host"),
    Flag("publish-all", "P", "bool", "Publish all exposed ports to random ports"),
]  # fmt: skip


# %% Files
_FILES = [
    Flag("mount", "", "mount", "Attach a filesystem mount to the container", convert=_mount),
    Flag("read-only", "", "bool", "Mount the container's root filesystem as read only"),
    Flag("shm-size", "", "bytes", "Size of /dev/shm"),
    Flag("storage-opt", "", "list", "Storage driver options for the container"),
    Flag("tmpfs", "", "list", "Mount a tmpfs directory"),
    Flag("volume", "v", "list", "Bind mount a volume"),
    Flag("volume-driver", "", "string", "Optional volume driver for the container"),
    Flag("volumes-from", "", "list", "Mount volumes from the specified container(s)"),
]


# %% Limits
LIMITS = [
    Flag("blkio-weight", "", "uint16", "Block IO (relative weight), between 10 and 1000, or 0 to disable"),
    Flag("cpu-period", "", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", "", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-rt-period", "", "int", "Limit CPU real-time period in microseconds"),
    Flag("cpu-rt-runtime", "", "int", "Limit CPU real-time runtime in microseconds"),
    Flag("cpu-shares", "c", "int", "CPU shares (relative weight)"),
    Flag("cpus", "", "decimal", "Number of CPUs"),
    Flag("cpuset-cpus", "", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", "", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("memory", "m", "bytes", "Memory limit"),
    Flag("memory-reservation", "", "bytes", "Memory soft limit"),
    Flag("memory-swap", "", "bytes", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap", convert=swap_size),
    Flag("pids-limit", "", "int", "Tune container pids limit (set -1 for unlimited)"),
]  # fmt: skip

_MORE_LIMITS = [
    Flag("blkio-weight-device", "", "list", "Block IO weight (relative device weight)", convert=values.weight_of_device),
    Flag("device-read-bps", "", "list", "Limit read rate (bytes per second) from a device", convert=values.bytes_of_device),
    Flag("device-read-iops", "", "list", "Limit read rate (IO per second) from a device", convert=values.operations_of_device),
    Flag("device-write-bps", "", "list", "Limit write rate (bytes per second) to a device", convert=values.bytes_of_device),
    Flag("device-write-iops", "", "list", "Limit write rate (IO per second) to a device", convert=values.operations_of_device),
    Flag("kernel-memory", "", "bytes", "Kernel memory limit"),
    Flag("memory-swappiness", "", "int", "Tune container memory swappiness (0 to 100)", -1),
    Flag("oom-kill-disable", "", "bool", "Disable OOM Killer"),
    Flag("oom-score-adj", "", "int", "Tune host's OOM preferences (-1000 to 1000)"),
    Flag("ulimit", "", "ulimit", "Ulimit options", convert=values.ulimit),
]  # fmt: skip

OPTIONS = [*_PROCESS, *_SECURITY, *_NETWORK, *_FILES, *LIMITS, *_MORE_LIMITS]
