"""A web server with a certificate, as whoever makes a client has one: it serves the client's documents and keys."""

from __future__ import annotations

import datetime
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class DocumentHost:
    """`publish` puts a document on the web; `fetched` says which paths were asked for, in order.

    `answers` holds what answers a form that is posted to a path.
    """

    def __init__(self, port: int, certificate: Path) -> None:
        self.base = f"https://localhost:{port}"
        self.certificate = certificate
        self.documents: dict[str, Any] = {}
        self.answers: dict[str, Callable[[dict[str, str]], Any]] = {}
        self.fetched: list[str] = []

    def publish(self, path: str, document: dict[str, Any]) -> str:
        """The address of the document, which names itself if it is a client's."""
        self.documents[path] = document
        return self.base + path

    def publish_client(self, path: str, name: str, redirect: str, **more: Any) -> str:
        """A client's metadata document; its address is the client_id."""
        return self.publish(
            path,
            {
                "client_id": self.base + path,
                "client_name": name,
                "redirect_uris": [redirect],
                "grant_types": ["authorization_code", "refresh_token"],
                "response_types": ["code"],
                "token_endpoint_auth_method": "none",
                **more,
            },
        )


@contextmanager
def document_host(certificate: Path) -> Iterator[DocumentHost]:
    """Running, with the certificate that whoever visits has to trust written to `certificate`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.fetched.append(self.path)
            self._say(host.documents.get(self.path), "max-age=600")

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            answer = host.answers.get(self.path)
            self._say(answer(dict(parse_qsl(form))) if answer else None, "no-store")

        def _say(self, found: Any, cache: str) -> None:
            body = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Cache-Control", cache)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _certify(certificate)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    host = DocumentHost(server.server_address[1], certificate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()


def _certify(certificate: Path) -> None:
    """A certificate for localhost that is its own authority, and beside it the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = certificate.with_suffix(".key")
    secret.touch(mode=0o600)
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
