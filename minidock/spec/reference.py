"""References: the names of images.

``busybox`` is short for ``docker.io/library/busybox:latest``: a registry, a
path in it, and a tag, of which people leave out what they can. A reference
may name a digest instead of a tag, or both.

The trap: ``localhost/x`` and ``a.b/x`` begin with a registry, ``a/x`` with a
path; what has a dot or a colon in it, or is ``localhost``, is a registry.

**Interface:** :class:`Reference`, :func:`parse`.

**See:** distribution ``reference/reference.go``, whose grammar this is.
"""

import re
from dataclasses import dataclass

from minidock.errors import InvalidParameter

# %% The grammar
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_PATTERN = re.compile(
    rf"(?:(?P<domain>{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?)/)?"
    rf"(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?"
    r"(?:@(?P<digest>[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}))?\Z",
    re.ASCII,  # letters are a to z, not all that Unicode calls letters
)
_BARE_ID = re.compile(r"[0-9a-f]{64}")  # looks like an id, so cannot be a name
_LONGEST_PATH = 255

DEFAULT_DOMAIN, DEFAULT_NAMESPACE, DEFAULT_TAG = "docker.io", "library", "latest"


# %% A reference
@dataclass(frozen=True, slots=True)
class Reference:
    """A full name: nothing is left out but the tag or the digest."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Registry and path: ``docker.io/library/busybox``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """As people write it: ``busybox``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        return self.path.removeprefix(f"{DEFAULT_NAMESPACE}/")

    @property
    def familiar(self) -> str:
        """The whole as people write it: ``busybox:latest``."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.familiar_name}{tag}" + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        """The full form, which the store writes down."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """``text`` with what was left out; the tag is ``latest`` unless there is a digest.

    Raises :class:`InvalidParameter` in Docker's words.
    """
    if _BARE_ID.fullmatch(text):
        raise InvalidParameter(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    match = _PATTERN.match(text)
    if match is None:
        lower = text.lower() != text and _PATTERN.match(text.lower()) is not None
        why = "repository name must be lowercase" if lower else "invalid reference format"
        raise InvalidParameter(
            f"invalid reference format: {why}: {text!r}" if lower else f"{why}: {text!r}"
        )
    domain, path = match["domain"] or "", match["path"]
    if domain and not ("." in domain or ":" in domain or domain == "localhost"):
        domain, path = "", f"{domain}/{path}"
        if path != path.lower():
            raise InvalidParameter(
                f"invalid reference format: repository name must be lowercase: {text!r}"
            )
    if domain in ("", "index.docker.io"):
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"{DEFAULT_NAMESPACE}/{path}"
    if len(path) > _LONGEST_PATH:
        raise InvalidParameter(f"repository name must not be more than {_LONGEST_PATH} characters")
    tag, digest = match["tag"] or "", match["digest"] or ""
    return Reference(domain, path, tag or ("" if digest else DEFAULT_TAG), digest)
