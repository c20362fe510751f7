"""``minidock registry``: a registry of our own.

**Interface:** :func:`run`.
"""

from pathlib import Path

from minidock.cli.flags import Flag, Usage, UsageError, Values, need, parse
from minidock.errors import NotFound

FILES = ("htpasswd", "access", "tls-cert", "tls-key")
FLAGS = {
    "serve": [
        Flag(
            "access", "", "string", "Who may do what: a TOML file (default: every user everything)"
        ),
        Flag("htpasswd", "", "string", "Users and passwords, by htpasswd -B (default: everybody)"),
        Flag("lease", "", "int", "Seconds for which what nobody refers to is kept", 24 * 3600),
        Flag("listen", "l", "string", "Address and port to listen on", "127.0.0.1:5000"),
        Flag("read-only", "", "bool", "Let nobody push or delete"),
        Flag(
            "root", "", "string", "Where images are kept (default: registry below MiniDock's root)"
        ),
        Flag("tls-cert", "", "string", "Certificate chain for TLS, PEM"),
        Flag("tls-key", "", "string", "Key of the certificate, PEM"),
        Flag("token", "", "bool", "Ask for tokens even if all repositories are private"),
    ],
    "gc": [
        Flag("delete-untagged", "m", "bool", "Also manifests that no tag leads to"),
        Flag("dry-run", "d", "bool", "Only say what would be thrown away"),
        Flag("lease", "", "int", "Seconds for which what nobody refers to is kept", 24 * 3600),
        Flag(
            "root", "", "string", "Where images are kept (default: registry below MiniDock's root)"
        ),
    ],
}

SERVE = Usage("registry serve", "[OPTIONS]", "Serve images over HTTP", FLAGS["serve"])
COLLECT = Usage("registry gc", "[OPTIONS]", "Throw away what nobody needs", FLAGS["gc"])
HELP = {
    "registry": "Usage:  minidock registry COMMAND\n\nRun an image registry\n\nCommands:\n"
    "  serve       Serve images over HTTP\n"
    "  gc          Throw away what nobody needs, also while serving"
}


# %% registry serve, registry gc
def run(arguments: list[str]) -> int:
    """``minidock registry serve`` and ``minidock registry gc``."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command not in FLAGS:
        raise UsageError(
            "help" if command in ("", "--help", "-h") else f"unknown command: {command}"
        )
    if "--help" in rest or "-h" in rest:
        print(SERVE if command == "serve" else COLLECT)
        return 0
    values, more = parse(rest, FLAGS[command])
    need(more, f"registry {command}", 0, 0)
    return _serve(values) if command == "serve" else _collect(values)


def _root(values: Values) -> Path:
    from minidock.paths import Paths

    return Path(values["root"]) if values["root"] else Paths.from_environment().root / "registry"


def _serve(values: Values) -> int:
    from minidock.registry.server import Options, serve

    files = {name: Path(values[name]) if values[name] else None for name in FILES}
    options = Options(
        _root(values),
        values["listen"],
        files["htpasswd"],
        files["access"],
        files["tls-cert"],
        files["tls-key"],
        read_only=values["read-only"],
        tokens=values["token"],
        lease=values["lease"],
    )
    serve(options, lambda address: print(f"listening on {address}", flush=True))
    return 0


def _collect(values: Values) -> int:
    from minidock.cli.table import human_size
    from minidock.registry.gc import collect
    from minidock.registry.storage import Storage
    from minidock.registry.storage_uploads import Uploads

    storage = Storage(_root(values), values["lease"])
    if not storage.repositories.is_dir():
        raise NotFound(f"{storage.root}: no registry there")
    found = collect(
        storage, Uploads(storage), untagged=values["delete-untagged"], dry_run=values["dry-run"]
    )
    word = "would throw away" if values["dry-run"] else "threw away"
    print(
        f"{word} {found.manifests} manifests, {found.blobs} blobs ({human_size(found.bytes)}),"
        f" {found.uploads} uploads"
    )
    return 0
