"""The fetcher against servers that behave badly: it gives up in time, within its size, and says why."""

from __future__ import annotations

import datetime
import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agentauth import settings
from agentauth.outbound.fetch import FetchFailed, FetchRefused, fetch

Behave = Callable[[socket.socket, bytes], None]


class Server:
    """Answers every connection with one behaviour, and keeps what it was sent."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://localhost:{self.port}/doc"
        self.behave: Behave = lambda connection, _: connection.sendall(_answer(b"{}"))
        self.requests: list[bytes] = []
        self.tls: ssl.SSLContext | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        try:
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            request = b""
            while b"\r\n\r\n" not in request:
                chunk = connection.recv(65536)
                if not chunk:
                    return
                request += chunk
            self.requests.append(request)
            self.behave(connection, request)
        except OSError:
            pass
        finally:
            connection.close()

    def close(self) -> None:
        self._listener.close()


def _answer(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    named = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in named.items() if value)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    found = Server()
    monkeypatch.setattr(settings.KNOBS, "allowed_hosts_outbound", [f"localhost:{found.port}"])
    yield found
    found.close()


def test_a_document_comes_with_its_status_type_and_lower_case_headers(server: Server):
    server.behave = lambda connection, _: connection.sendall(_answer(b'{"a":1}', "404 Not Found", X_Two="b"))
    fetched = fetch(server.url)
    assert (fetched.status, fetched.media_type, fetched.body) == (404, "application/json", b'{"a":1}')
    assert fetched.headers["x-two"] == "b"


def test_the_request_names_the_host_and_asks_for_nothing_packed(server: Server):
    fetch(server.url + "?x=1", accept="application/json", headers={"Authorization": "Bearer s"})
    head = server.requests[0].decode()
    assert head.startswith("GET /doc?x=1 HTTP/1.1\r\n")
    assert f"Host: localhost:{server.port}" in head and head.lower().count("\r\nhost:") == 1
    assert "Accept-Encoding: identity" in head and head.lower().count("accept-encoding:") == 1
    assert "Authorization: Bearer s" in head


def test_a_body_is_sent(server: Server):
    fetch(server.url, method="POST", body=b"hello", headers={"Content-Type": "text/plain"})
    assert server.requests[0].startswith(b"POST") and b"Content-Length: 5" in server.requests[0]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_not_followed_and_its_target_is_named(server: Server, status: str):
    server.behave = lambda connection, _: connection.sendall(
        _answer(b"", status, Location="http://169.254.169.254/latest")
    )
    with pytest.raises(FetchFailed, match=r"sends elsewhere, to http://169\.254\.169\.254/latest"):
        fetch(server.url)
    assert len(server.requests) == 1


def test_a_redirect_target_is_shown_as_harmless_text(server: Server):
    server.behave = lambda connection, _: connection.sendall(
        _answer(b"", "302 Found", Location="http://x/\x1b[31m\xe2\x80\xae" + "a" * 900)
    )
    with pytest.raises(FetchFailed) as failed:
        fetch(server.url)
    assert failed.value.reason.isprintable() and failed.value.reason.isascii() and len(failed.value.reason) < 400


def test_too_much_is_refused_when_it_is_announced(server: Server):
    server.behave = lambda connection, _: connection.sendall(_answer(b"", Content_Length=str(10**12)))
    with pytest.raises(FetchFailed, match="more than 1 KB"):
        fetch(server.url, max_bytes=1024)


def test_too_much_is_refused_when_it_was_not_announced(server: Server):
    def endless(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    server.behave = endless
    with pytest.raises(FetchFailed, match="more than 1 KB"):
        fetch(server.url, max_bytes=1024, timeout=5)


def test_a_bomb_of_packed_zeros_is_refused(server: Server):
    bomb = gzip.compress(b"\0" * 50_000_000)
    server.behave = lambda connection, _: connection.sendall(_answer(bomb, Content_Encoding="gzip"))
    begun = time.monotonic()
    with pytest.raises(FetchFailed, match="more than 1024 KB"):
        fetch(server.url)
    assert time.monotonic() - begun < 2


def test_a_packed_answer_that_nobody_asked_for_is_still_read(server: Server):
    server.behave = lambda connection, _: connection.sendall(_answer(gzip.compress(b"{}"), Content_Encoding="gzip"))
    assert fetch(server.url).body == b"{}"


def test_an_unknown_encoding_is_refused(server: Server):
    server.behave = lambda connection, _: connection.sendall(_answer(b"{}", Content_Encoding="br"))
    with pytest.raises(FetchFailed, match="encoding"):
        fetch(server.url)


@pytest.mark.parametrize("where", ["before", "head", "body", "body without end"])
def test_a_server_that_drips_is_left_in_time(server: Server, where: str):
    """Each byte comes well within a read's timeout; only the whole exchange is too slow."""

    def drip(connection: socket.socket, _: bytes) -> None:
        if where == "before":
            time.sleep(5)
        if where != "head":
            length = "" if where == "body without end" else "1000"
            connection.sendall(_answer(b"", Content_Length=length))
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for _at in range(90):
            connection.sendall(b"X-Slow: 1\r\n" if where == "head" else b"{")
            time.sleep(0.05)

    server.behave = drip
    begun = time.monotonic()
    with pytest.raises(FetchFailed, match=r"longer than 0\.6 seconds"):
        fetch(server.url, timeout=0.6)
    assert time.monotonic() - begun < 1.5


def test_a_body_that_breaks_off_is_no_document(server: Server):
    server.behave = lambda connection, _: connection.sendall(_answer(b"{}", Content_Length="10"))
    with pytest.raises(FetchFailed, match="did not answer properly"):
        fetch(server.url)


@pytest.mark.parametrize(
    "rubbish", [b"", b"hello\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500]
)
def test_rubbish_is_no_answer(server: Server, rubbish: bytes):
    server.behave = lambda connection, _: connection.sendall(rubbish)
    with pytest.raises(FetchFailed):
        fetch(server.url)


def test_another_media_type_than_asked_for_fails(server: Server):
    server.behave = lambda connection, _: connection.sendall(_answer(b"<html>", Content_Type="text/html"))
    with pytest.raises(FetchFailed, match="text/html"):
        fetch(server.url, accept="application/json")
    assert fetch(server.url, accept="application/json, */*").body == b"<html>"
    assert fetch(server.url, accept="text/*").body == b"<html>"


def test_reading_a_stream_ends_when_there_is_enough(server: Server):
    def stream(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        time.sleep(5)

    server.behave = stream
    begun = time.monotonic()
    assert fetch(server.url, enough=lambda body: b"\n\n" in body).body == b"data: 1\n\n"
    assert time.monotonic() - begun < 2


def test_proxies_of_the_environment_are_not_used(server: Server, monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(server.url).status == 200


def test_nobody_there_is_said_plainly(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(settings.KNOBS, "allowed_hosts_outbound", [f"localhost:{port}"])
    with pytest.raises(FetchFailed, match="connection refused"):
        fetch(f"http://localhost:{port}/")


def test_a_name_that_does_not_exist_is_said_plainly(monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror("nothing known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(FetchFailed, match="cannot be resolved"):
        fetch("https://nowhere.example/")


def test_a_certificate_must_be_trusted_and_for_this_name(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from agentauth.outbound import fetch as module

    server.tls, authority = _tls(tmp_path)
    url = server.url.replace("http://", "https://")
    with pytest.raises(FetchFailed, match="no valid certificate"):
        fetch(url)
    monkeypatch.setattr(module, "_trusted", lambda: authority)
    assert fetch(url).status == 200
    monkeypatch.setattr(settings.KNOBS, "allowed_hosts_outbound", [f"127.0.0.1:{server.port}"])
    with pytest.raises(FetchFailed, match="no valid certificate"):
        fetch(url.replace("localhost", "127.0.0.1"))


def test_a_slow_handshake_is_left_in_time(server: Server):
    begun = time.monotonic()
    with pytest.raises(FetchFailed):
        fetch(server.url.replace("http://", "https://"), timeout=0.6)  # the server waits for a request in plain
    assert time.monotonic() - begun < 1.5


def test_what_is_refused_is_refused_before_anything_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settings.KNOBS, "allowed_hosts_outbound", [])
    with pytest.raises(FetchRefused, match="this machine"):
        fetch(server.url)
    assert server.requests == []


def _tls(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for `localhost`, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))
