"""Who may: passwords, tokens, certificates; and Docker's words when one may not."""

import os
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidock.errors import MiniDockError
from minidock.registry.auth import Credentials
from minidock.registry.client import login
from minidock.registry.settings import Settings
from tests.integration.images.test_images import ONE, TWO, load, saved
from tests.integration.registry.conftest import (
    Kit,
    Registry,
    TokenServer,
    certificates,
    docker_registry,
)
from tests.integration.registry.fake import Fake, Handler
from tests.integration.registry.test_transfers import put_image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ANN = Credentials("ann", "secret: word")


# %% Passwords
def test_a_password(kit: Kit, other: Kit, private: Registry) -> None:
    name = f"{private.host}/own/x:1"
    load(kit.images, saved([name], ONE))
    pushed = kit.push(name, ANN)
    assert other.pull(name, who=ANN) == kit.images.get(name).id
    assert other.transfers.distribution(name, ANN)["Descriptor"]["digest"] == pushed


def test_no_password(kit: Kit, private: Registry) -> None:
    name = f"{private.host}/own/y:1"
    load(kit.images, saved([name], ONE))
    with pytest.raises(MiniDockError) as error:
        kit.push(name)
    assert str(error.value) == "no basic auth credentials"
    with pytest.raises(MiniDockError) as error:
        kit.pull(f"{private.host}/own/z:1")
    assert str(error.value) == (
        f'Head "http://{private.host}/v2/own/z/manifests/1": no basic auth credentials'
    )


def test_a_wrong_password(kit: Kit, private: Registry) -> None:
    with pytest.raises(MiniDockError, match="unauthorized: authentication required"):
        kit.pull(f"{private.host}/own/x:1", who=Credentials("ann", "wrong"))


def test_login(private: Registry) -> None:
    good = Credentials("ann", "secret: word", server=private.host)
    assert login(Settings(), good)["Status"] == "Login Succeeded"
    bad = Credentials("ann", "wrong", server=f"http://{private.host}/v2/")
    with pytest.raises(MiniDockError, match=r"failed with status: 401 Unauthorized"):
        login(Settings(), bad)


# %% Tokens
def test_tokens(kit: Kit, other: Kit, tokens: tuple[Registry, TokenServer]) -> None:
    registry, server = tokens
    name = f"{registry.host}/tok:1"
    load(kit.images, saved([name, f"{registry.host}/tok2:1"], ONE, TWO))
    kit.push(name, Credentials("ann", "pw"))
    assert server.asked[0]["scope"] == ["repository:tok:pull,push"]
    assert server.asked[0]["service"] == ["reg"] and server.asked[0]["account"] == ["ann"]
    assert len(server.asked) == 1  # one token did for all of it
    other.pull(name, who=Credentials("ann", "pw"))
    assert server.asked[-1]["scope"] == ["repository:tok:pull"]
    kit.push(f"{registry.host}/tok2:1", Credentials("ann", "pw"))
    assert "repository:tok:pull" in server.asked[-1]["scope"]  # to mount from there
    assert "Mounted from tok" in kit.statuses()


def test_a_refresh_token(kit: Kit, tokens: tuple[Registry, TokenServer]) -> None:
    registry, server = tokens
    answer = login(Settings(), Credentials("ann", "pw", server=registry.host))
    assert answer == {"Status": "Login Succeeded", "IdentityToken": server.refresh}
    name = f"{registry.host}/tok:1"
    load(kit.images, saved([name], ONE))
    kit.push(name, Credentials(identity_token=server.refresh))
    assert server.asked[-1]["grant_type"] == ["refresh_token"]
    with pytest.raises(MiniDockError, match="incorrect username or password"):
        kit.pull(name, who=Credentials(identity_token="stolen"))


def test_the_token_server_says_no(kit: Kit, tokens: tuple[Registry, TokenServer]) -> None:
    registry, _ = tokens
    for who in (Credentials(), Credentials("ann", "wrong")):
        with pytest.raises(MiniDockError, match="unauthorized: incorrect username or password"):
            kit.pull(f"{registry.host}/tok:1", who=who)
    with pytest.raises(MiniDockError, match="unauthorized: incorrect username or password"):
        login(Settings(), Credentials("ann", "wrong", server=registry.host))


def test_a_token_that_is_not_good_for_it(
    kit: Kit, other: Kit, tokens: tuple[Registry, TokenServer]
) -> None:
    """The token server lets anybody in, and gives less than was asked for; Docker says the same."""
    registry, server = tokens
    name, who = f"{registry.host}/tok:1", Credentials("ann", "pw")
    load(kit.images, saved([name], ONE))
    denied = "denied: requested access to the resource is denied"
    server.gives = lambda act: act == "pull"
    with pytest.raises(MiniDockError) as error:
        kit.push(name, who)
    assert str(error.value) == denied
    server.gives = lambda act: True
    kit.push(name, who)
    server.gives = lambda act: False
    for one in (name, f"{registry.host}/absent:1"):
        with pytest.raises(MiniDockError) as error:
            other.pull(one, who=who)
        assert str(error.value) == (
            f"pull access denied for {one[:-2]}, repository does not exist or may require"
            f" 'docker login': {denied}"
        )


def test_a_token_that_has_run_out(kit: Kit, fake: Fake) -> None:
    """The registry stops believing it in the middle: one more is asked for."""
    put_image(fake, ONE, TWO)
    given: list[str] = []

    def guard(handler: Handler) -> int | None:
        if handler.path.startswith("/token"):
            given.append(f"t{len(given)}")
            handler.answer(200, b'{"token": "%s"}' % given[-1].encode())
            return -1
        if given and handler.headers.get("Authorization") == f"Bearer {given[-1]}":
            if "/blobs/" in handler.path and len(given) == 1:
                given.append("nobody's")
            else:
                return None
        realm = f'Bearer realm="http://{fake.host}/token",service="x"'
        handler.answer(401, WWW_Authenticate=realm)
        return -1

    fake.faults.append(guard)
    kit.pull(f"{fake.host}/x:1")
    assert len(given) >= 3


def test_a_realm_without_tls_gets_no_password(kit: Kit) -> None:
    from minidock.registry.auth import Authorizer
    from minidock.registry.transport import Transport
    from minidock.registry.words import Challenge

    authorizer = Authorizer(Transport(Settings()), "example.invalid", Credentials("a", "b"))
    for realm in ("http://192.0.2.1/token", "ftp://x/", "file:///etc/passwd"):
        with pytest.raises(MiniDockError, match="without TLS|no token server"):
            authorizer.fetch(Challenge("bearer", {"realm": realm}), ())


# %% Certificates
@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def secure(authority: Path, tmp_path: Path) -> Iterator[Registry]:
    """It shows a certificate and wants to see one."""
    tls = {
        "certificate": str(authority / "server.crt"),
        "key": str(authority / "server.key"),
        "clientcas": [str(authority / "ca.crt")],
    }
    with docker_registry(tmp_path / "secure", {"http": {"tls": tls}}) as one:
        yield one


class Distrusting(Settings):
    """Loopback is not trusted without a certificate, so that we see what happens elsewhere."""

    def is_insecure(self, host: str) -> bool:
        return host in self.insecure


def place(tmp_path: Path, host: str, authority: Path, *names: str) -> Path:
    folder = tmp_path / "certs.d" / host
    folder.mkdir(parents=True)
    for source, name in (one.split("=") for one in names):
        shutil.copy(authority / source, folder / name)
    return tmp_path / "certs.d"


def test_our_own_authority(tmp_path: Path, secure: Registry, authority: Path) -> None:
    names = ("ca.crt=ca.crt", "client.cert=client.cert", "client.key=client.key")
    certs = place(tmp_path, secure.host, authority, *names)
    kit = Kit(tmp_path / "k", Distrusting(certificates=(certs,)))
    name = f"{secure.host}/tls:1"
    load(kit.images, saved([name], ONE))
    kit.push(name)
    other = Kit(tmp_path / "l", Distrusting(certificates=(certs,)))
    assert other.pull(name) == kit.images.get(name).id


def test_an_unknown_authority(tmp_path: Path, secure: Registry) -> None:
    kit = Kit(tmp_path / "k", Distrusting(certificates=()))
    with pytest.raises(MiniDockError, match="x509: certificate signed by unknown authority"):
        kit.pull(f"{secure.host}/tls:1")


def test_insecure(tmp_path: Path, secure: Registry, authority: Path) -> None:
    """No authority is asked for; the client's own certificate is shown all the same."""
    certs = place(
        tmp_path, secure.host, authority, "client.cert=client.cert", "client.key=client.key"
    )
    settings = Distrusting(certificates=(certs,), insecure=(secure.host,))
    kit = Kit(tmp_path / "k", settings)
    name = f"{secure.host}/tls:2"
    load(kit.images, saved([name], ONE))
    kit.push(name)


def test_plain_http_only_where_it_may_be(tmp_path: Path, fake: Fake) -> None:
    kit = Kit(tmp_path / "k", Distrusting())
    with pytest.raises(MiniDockError) as error:
        kit.pull(f"{fake.host}/x:1")
    assert str(error.value) == (
        f'Get "https://{fake.host}/v2/": http: server gave HTTP response to HTTPS client'
    )
    put_image(fake, ONE)
    Kit(tmp_path / "l", Distrusting(insecure=(fake.host,))).pull(f"{fake.host}/x:1")


def test_a_redirect_to_plain_http_is_without_password(tmp_path: Path) -> None:
    assert ssl.HAS_TLSv1_3
    from minidock.registry.transport import same_host

    assert not same_host("https://a/x", "http://a/x")
    assert not same_host("https://a:1/x", "https://a:2/x")
    assert same_host("https://a:1/x", "https://a:1/y")
