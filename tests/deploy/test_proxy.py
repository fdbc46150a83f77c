"""The proxy of deploy/nginx.conf, with a real nginx: clicks get through as their reader's, nothing made up does."""

import datetime
import http.client
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import need
from tests.system import PERSON, ROOT, Answer, System, free_ports

NAME = "track.example"
READER = "127.0.0.5"
"""Where the reader's requests come from: any address of the loopback network will do, and none is trusted but .1."""


@dataclass
class Proxied:
    """A system behind nginx; `secure` and `plain` are its ports."""

    system: System
    folder: Path
    secure: int
    plain: int

    def ask(self, method: str, path: str, body: bytes | None = None, name: str = NAME, **headers: str) -> Answer:
        """One request by TLS."""
        context = ssl.create_default_context(cafile=str(self.folder / "cert.pem"))
        connection = http.client.HTTPSConnection(
            name, self.secure, timeout=30, context=context, source_address=(READER, 0)
        )
        connection._create_connection = lambda _address, *rest: _connect(self.secure, *rest)  # type: ignore[attr-defined]
        try:
            sent = {"User-Agent": PERSON, **{key.replace("_", "-"): value for key, value in headers.items()}}
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


def _connect(port: int, timeout: float, source: tuple[str, int]) -> object:
    return socket.create_connection(("127.0.0.1", port), timeout, source)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or need("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    secure, plain = free_ports(2)
    server = {"workers": 1, "public_url": f"https://{NAME}", "trusted_proxies": ["127.0.0.1/32"]}
    system = System(folder, {"server": server, "privacy": {"ip": "keep"}}).start()
    _certificate(folder)
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    for said, here in {
        "127.0.0.1:8080": f"127.0.0.1:{system.edge_port}",
        "listen 443": f"listen {secure}",
        "listen 80;": f"listen {plain};",
        f"/etc/ssl/{NAME}.pem": str(folder / "cert.pem"),
        f"/etc/ssl/{NAME}.key": str(folder / "key.pem"),
        "/var/log/nginx/lastcookie.log": str(folder / "access.log"),
    }.items():
        assert said in text, said
        text = text.replace(said, here)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\nhttp {{\n{temporary}{text}\n}}\n"
    )
    with (folder / "nginx.txt").open("wb") as out:
        process = subprocess.Popen([nginx, "-e", folder / "error.log", "-c", folder / "nginx.conf"], stderr=out)
    found = Proxied(system, folder, secure, plain)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                found.ask("GET", "/none")
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "nginx.txt").read_text()
                time.sleep(0.05)
        yield found
    finally:
        process.terminate()
        process.wait(20)
        assert system.stop() == 0


def _certificate(folder: Path) -> None:
    """A certificate of its own for the name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def test_a_click_gets_through_as_its_readers_whatever_he_says_of_himself(proxied: Proxied) -> None:
    """Address and scheme are nginx's to say; the click counts."""
    answer = proxied.ask(
        "GET",
        "/c/boots?sub1=made-up",
        X_Forwarded_For="198.51.100.66, 127.0.0.1",
        X_Forwarded_Proto="http",
        Forwarded="for=198.51.100.66;proto=http",
        X_Real_IP="198.51.100.66",
    )
    assert answer.status == 302 and answer.headers["location"].startswith(proxied.system.shop_url)
    assert answer.headers["set-cookie"].startswith("lc=") and "Secure" in answer.headers["set-cookie"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    proxied.system.wait_for_rows("SELECT count() FROM clicks WHERE sub1 = 'made-up'", 1)
    [row] = proxied.system.sql("SELECT ip, flags FROM clicks WHERE sub1 = 'made-up'")
    assert row == {"ip": READER, "flags": []}


def test_whoever_reaches_the_edge_past_the_proxy_is_not_believed(proxied: Proxied) -> None:
    """A peer that is no trusted proxy says nothing of others, nor that he came by https."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", proxied.system.edge_port, timeout=30, source_address=(READER, 0)
    )
    spoofed = {"Host": NAME, "User-Agent": PERSON, "X-Forwarded-For": "198.51.100.66", "X-Forwarded-Proto": "https"}
    connection.request("GET", "/c/boots?sub1=past", headers=spoofed)
    answer = connection.getresponse()
    assert answer.status == 302 and answer.getheader("set-cookie") is None
    connection.close()
    proxied.system.wait_for_rows("SELECT count() FROM clicks WHERE sub1 = 'past'", 1)
    [row] = proxied.system.sql("SELECT ip, flags FROM clicks WHERE sub1 = 'past'")
    assert row == {"ip": READER, "flags": ["blocked"]}


def test_a_sale_gets_through_and_its_token_into_no_log(proxied: Proxied) -> None:
    token = proxied.system.key("postback")
    answer = proxied.ask("GET", f"/postback?program=shoes&order_id=p-1&amount=1&currency=EUR&token={token}")
    assert (answer.status, answer.json["status"]) == (200, "accepted")
    deadline = time.monotonic() + 10  # nginx writes its line after the answer
    while "/postback" not in (logs := (proxied.folder / "access.log").read_text()):
        assert time.monotonic() < deadline, logs
        time.sleep(0.02)
    logs += (proxied.folder / "error.log").read_text()
    assert token not in logs and "order_id" not in logs


def test_plain_http_is_sent_to_https_with_what_it_asked_for(proxied: Proxied) -> None:
    answer = proxied.system.request("GET", "/c/boots?sub1=x", port=proxied.plain, host="evil.example")
    assert (answer.status, answer.headers["location"]) == (308, f"https://{NAME}/c/boots?sub1=x")


def test_limits_are_met_before_the_edge(proxied: Proxied) -> None:
    assert proxied.ask("POST", "/v1/conversions", b"x" * (1 << 20) + b"x").status == 413
    assert proxied.ask("GET", "/c/boots?x=" + "y" * 17_000).status == 414
    assert proxied.ask("GET", "/c/boots", X="y" * 17_000).status == 400  # nginx's word for 431
    assert proxied.ask("GET", "/c/boots", X="y" * 16_300, Y="z" * 16_300).status == 431  # the edge's own


def test_another_name_is_not_served(proxied: Proxied) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        proxied.ask("GET", "/c/boots", name="evil.example")


def test_http_2_is_spoken(proxied: Proxied) -> None:
    command = [
        need("curl"),
        "--silent",
        "--http2",
        "--cacert",
        str(proxied.folder / "cert.pem"),
        "--output",
        "/dev/null",
    ]
    command += ["--resolve", f"{NAME}:{proxied.secure}:127.0.0.1", "--write-out", "%{http_version} %{http_code}"]
    command += ["--user-agent", PERSON, f"https://{NAME}:{proxied.secure}/c/boots"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "2 302"
