"""nginx with TLS in front of one server, which it serves below a path of its own."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Sequence

import trustme

from tests.servers import Server

from .backends import find_program

CONFIGURATION = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/log warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        ''      close;
    }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {directory}/server.pem;
        ssl_certificate_key {directory}/server.key;
        location {path}/ {{
            proxy_pass http://127.0.0.1:{upstream}/;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_read_timeout 1h;
        }}
    }}
}}
"""


class Nginx(Server):
    """A reverse proxy with a certificate of an authority that lives as long as the object."""

    name = "nginx"

    def __init__(self, upstream: int, path: str) -> None:
        super().__init__()
        self.upstream, self.path = upstream, path
        self.authority = trustme.CA()

    @property
    def url(self) -> str:
        """The address of the site, without a slash at its end."""
        return f"https://127.0.0.1:{self.port}{self.path}"

    def client_context(self) -> ssl.SSLContext:
        """Return a context that trusts the certificate."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def version(self) -> str:
        """Return the name and the version of the program."""
        told = subprocess.run([find_program("nginx"), "-v"], capture_output=True, text=True, check=True).stderr
        return f"nginx {told.strip().rpartition('/')[2]}"

    def command(self) -> Sequence[str]:
        return [find_program("nginx"), "-e", str(self.log), "-c", str(self.directory / "nginx.conf")]

    def prepare(self) -> None:
        certificate = self.authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(str(self.directory / "server.key"))
        (self.directory / "server.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        (self.directory / "nginx.conf").write_text(
            CONFIGURATION.format(directory=self.directory, port=self.port, path=self.path, upstream=self.upstream)
        )
