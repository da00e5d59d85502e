"""Test the reverse proxy of deploy/nginx.conf with a real nginx, in front of small servers that tell what they see."""

import base64
import datetime
import hashlib
import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestration.config.settings import PROJECT_ROOT
from tests.waiting import free_port, until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
UPSTREAMS = {"dagster": 3000, "mlflow": 5000, "movies": 8501, "api": 8000}
UIS = ["dagster", "mlflow", "movies"]
PASSWORD = "right one"
LOGIN = {"Authorization": "Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode()}
MAIN = """daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log {folder}/access.log;
    {before}
    include {folder}/recommender.conf;
}}
"""
# What Debian's nginx.conf sets for all servers: the file must not say it again there.
DEBIAN = "sendfile on; tcp_nopush on; ssl_protocols TLSv1.2; ssl_prefer_server_ciphers on; gzip on;"


class Echo(BaseHTTPRequestHandler):
    """Answer with what arrived; after an upgrade, with the same bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade"):
            magic = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            accept = base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()
            self.send_header("Sec-WebSocket-Accept", accept)
            self.end_headers()
            while part := self.connection.recv(1024):
                self.connection.sendall(part)
            return
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        seen = {"port": self.server.server_address[1], "path": self.path, "headers": dict(self.headers), "body": sent}
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Frame-Options", "DENY")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@dataclass
class Proxy:
    """A running nginx.

    Attributes:
        port: of 127.0.0.1 that it listens on.
        ports: of the servers behind it, by the first part of their names.
        trusted: its certificate.
        process: the running process.
    """

    port: int
    ports: dict[str, int]
    trusted: ssl.SSLContext
    process: "subprocess.Popen[bytes]"

    def connect(self, name: str) -> ssl.SSLSocket:
        """Open a connection as a client that has looked this name up."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return self.trusted.wrap_socket(plain, server_hostname=f"{name}.example.com")

    def ask(
        self, name: str, method: str = "GET", path: str = "/", headers: dict[str, str] | None = None, body: str = ""
    ) -> http.client.HTTPResponse:
        """Send a request to one of the names, as the header ``Host`` too if there is no other."""
        connection = http.client.HTTPConnection(f"{name}.example.com")
        connection.sock = self.connect(name)
        connection.request(method, path, body or None, headers or {})
        response = connection.getresponse()
        response.seen = response.read()  # type: ignore[attr-defined]
        connection.close()
        return response


def seen(response: Any) -> dict[str, Any]:
    assert response.status == 200, response.seen
    found: dict[str, Any] = json.loads(response.seen)
    return found


def write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.com")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(f"{each}.example.com") for each in UPSTREAMS])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    (folder / "fullchain.pem").write_bytes(made.public_bytes(encoding))
    own = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, *own))


def adapted(port: int, ports: dict[str, int], folder: Path) -> str:
    """Return the file with what its first lines tell to replace, and the servers' ports."""
    text = (PROJECT_ROOT / "deploy" / "nginx.conf").read_text()
    for old, new in [
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("/etc/nginx/recommender/", f"{folder}/"),
        *((f"127.0.0.1:{UPSTREAMS[name]};", f"127.0.0.1:{own};") for name, own in ports.items()),
    ]:
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Start nginx in front of a server for each name."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    servers = {name: ThreadingHTTPServer(("127.0.0.1", 0), Echo) for name in UPSTREAMS}
    for server in servers.values():
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = {name: server.server_port for name, server in servers.items()}
    write_certificate(folder)
    (folder / "passwords").write_text(f"anna:{{PLAIN}}{PASSWORD}\n")
    (folder / "recommender.conf").write_text(adapted(port, ports, folder))
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, before=DEBIAN))
    command = [str(NGINX), "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(command)
    trusted = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
    found = Proxy(port, ports, trusted, process)
    try:
        until(lambda: process.poll() is not None or accepts(port))
        yield found
    finally:
        process.terminate()
        process.wait(30)
        for server in servers.values():
            server.shutdown()
            server.server_close()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("name", UIS)
@pytest.mark.parametrize("login", [None, "anna:", "anna:wrong", f"otto:{PASSWORD}"])
def test_no_password_no_answer(name: str, login: str | None, proxy: Proxy) -> None:
    headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()} if login else {}
    response = proxy.ask(name, headers=headers)
    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == 'Basic realm="Recommender"'


@pytest.mark.parametrize("name", UIS)
def test_each_name_leads_to_its_server_which_sees_that_name_and_no_password(name: str, proxy: Proxy) -> None:
    found = seen(proxy.ask(name, path="/a%2Fb?x=1", headers={**LOGIN, "X-Forwarded-For": "192.0.2.1"}))
    assert (found["port"], found["path"]) == (proxy.ports[name], "/a%2Fb?x=1")
    assert found["headers"]["Host"] == f"{name}.example.com"
    assert found["headers"]["X-Forwarded-Proto"] == "https"
    assert found["headers"]["X-Forwarded-For"] == "127.0.0.1"
    assert "Authorization" not in found["headers"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost", "dagster.example.com.evil.example", ""])
def test_other_host_is_refused(host: str, proxy: Proxy) -> None:
    """The name that the browser looked up is the one of the certificate, or the handshake fails already."""
    response = proxy.ask("dagster", headers={**LOGIN, "Host": host})
    assert response.status in (400, 421)
    assert b"port" not in response.seen  # type: ignore[attr-defined]


def test_server_never_sees_a_host_with_another_port_or_in_capitals(proxy: Proxy) -> None:
    for host in ("dagster.example.com:1234", "DAGSTER.example.com"):
        assert seen(proxy.ask("dagster", headers={**LOGIN, "Host": host}))["headers"]["Host"] == "dagster.example.com"


def test_rebound_name_gets_no_handshake(proxy: Proxy) -> None:
    untrusting = ssl.create_default_context()
    untrusting.check_hostname, untrusting.verify_mode = False, ssl.CERT_NONE
    for name in ("evil.example", None):
        plain = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
        with pytest.raises(ssl.SSLError), untrusting.wrap_socket(plain, server_hostname=name):
            pass


OWN = {"Origin": "https://dagster.example.com"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
FOREIGN = [
    "https://evil.example", "http://dagster.example.com", "https://mlflow.example.com", "https://dagster.example.com:8443",
    "https://dagster.example.com.evil.example", "https://dagsterxexample.com", "null", "",
]  # fmt: skip


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_change_must_come_from_the_server_s_own_pages(method: str, proxy: Proxy) -> None:
    found = seen(proxy.ask("dagster", method, "/graphql", {**LOGIN, **OWN}, "{}"))
    assert found["body"] == "{}"
    assert proxy.ask("dagster", method, "/graphql", LOGIN).status == 200  # no browser
    for origin in FOREIGN[:-1]:
        assert proxy.ask("dagster", method, "/graphql", {**LOGIN, "Origin": origin}).status == 403, origin
    assert proxy.ask("dagster", method, "/graphql", {**OWN}).status == 401


@pytest.mark.parametrize("name", UIS)
def test_websocket_passes(name: str, proxy: Proxy) -> None:
    lines = {"Host": f"{name}.example.com", **LOGIN, **UPGRADE, "Origin": f"https://{name}.example.com"}
    with proxy.connect(name) as connection:
        head = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
        connection.sendall(f"GET /stream HTTP/1.1\r\n{head}\r\n".encode())
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer  # the example of RFC 6455, section 1.3
        for sent in (b"one", b"two"):
            connection.sendall(sent)
            assert connection.recv(4096) == sent


def test_websocket_of_another_site_or_without_a_password_is_refused(proxy: Proxy) -> None:
    for origin in FOREIGN[:-1]:
        assert proxy.ask("dagster", path="/graphql", headers={**LOGIN, **UPGRADE, "Origin": origin}).status == 403
    assert proxy.ask("dagster", path="/graphql", headers={**UPGRADE, **OWN}).status == 401


@pytest.mark.parametrize(
    ("site", "mode", "method", "status"),
    [
        ("same-origin", "cors", "GET", 200), ("same-origin", "cors", "POST", 200), ("none", "navigate", "GET", 200),
        ("cross-site", "navigate", "GET", 200), ("cross-site", "no-cors", "GET", 403),
        ("same-site", "cors", "GET", 403), ("cross-site", "navigate", "POST", 403),
        ("same-site", "websocket", "GET", 403),
    ],
)  # fmt: skip
def test_pages_of_other_sites_can_only_link_here(site: str, mode: str, method: str, status: int, proxy: Proxy) -> None:
    headers = {**LOGIN, "Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    assert proxy.ask("mlflow", method, headers=headers).status == status


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/graphql?query=mutation%7Bx%7D", 403), ("/%67raphql?%71uery=x", 403), ("//graphql?query=x", 403),
        ("/graphql/?query=x", 403), ("/a/../graphql?query=x", 403), ("/graphql", 200), ("/runs?query=x", 200),
    ],
)  # fmt: skip
def test_query_in_an_address_is_refused(path: str, status: int, proxy: Proxy) -> None:
    assert proxy.ask("dagster", path=path, headers=LOGIN).status == status


@pytest.mark.parametrize("name", UIS)
def test_responses_have_security_headers_once(name: str, proxy: Proxy) -> None:
    for headers in (LOGIN, {}):
        found = proxy.ask(name, headers=headers).headers
        for header, value in {
            "Strict-Transport-Security": "max-age=31536000",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "SAMEORIGIN",
            "Referrer-Policy": "same-origin",
            "Content-Security-Policy": "frame-ancestors 'self'",
        }.items():
            assert found.get_all(header) == [value]
        assert re.fullmatch("nginx", found["Server"])  # no version


def test_service_gets_the_key_of_the_request(proxy: Proxy) -> None:
    found = seen(proxy.ask("api", headers={"Authorization": "Bearer abc"}))
    assert found["port"] == proxy.ports["api"]
    assert (found["headers"]["Authorization"], found["headers"]["Host"]) == ("Bearer abc", "api.example.com")


def test_it_listens_only_where_it_was_told(proxy: Proxy) -> None:
    process = psutil.Process(proxy.process.pid)
    found = [each for own in (process, *process.children(recursive=True)) for each in own.net_connections()]
    listening = {(each.laddr.ip, each.laddr.port) for each in found if each.status == "LISTEN"}
    assert listening == {("127.0.0.1", proxy.port)}


def test_passwords_cannot_be_guessed_quickly(proxy: Proxy) -> None:
    """Last: afterwards this address has to wait."""
    with proxy.connect("movies") as connection:
        wrong = base64.b64encode(b"anna:wrong").decode()
        request = f"GET / HTTP/1.1\r\nHost: movies.example.com\r\nAuthorization: Basic {wrong}\r\n\r\n".encode()
        client = http.client.HTTPResponse
        statuses = []
        for _ in range(600):
            connection.sendall(request)
            response = client(connection)
            response.begin()
            response.read()
            statuses.append(response.status)
    assert statuses[0] == 401
    assert statuses.count(429) > 100
