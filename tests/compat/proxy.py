"""nginx with TLS in front of one server, below a path of its own: the configuration of `docs/deployment.md`."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Sequence

import trustme

from tests.servers import ROOT, Server, ServerError

from .backends import find_program

#: What surrounds the documented configuration here: one process without rights, and files of its own.
SURROUNDINGS = """
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
    {documented}
}}
"""


def read_documented() -> str:
    """Return the configuration of `docs/deployment.md`."""
    text = (ROOT / "docs" / "deployment.md").read_text()
    return text.partition("```nginx\n")[2].partition("```")[0]


def place(documented: str, changes: dict[str, str]) -> str:
    """Return a configuration with other ports, paths and files; each text must be in it."""
    for old, new in changes.items():
        if old not in documented:
            raise ServerError(f"expected {old!r} in the nginx configuration of docs/deployment.md")
        documented = documented.replace(old, new)
    return documented


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
        documented = place(
            read_documented(),
            {
                "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
                "server 127.0.0.1:8000": f"server 127.0.0.1:{self.upstream}",
                "/etc/ssl/www.example.com.pem": f"{self.directory}/server.pem",
                "/etc/ssl/www.example.com.key": f"{self.directory}/server.key",
                "/srv/mysite/static/": f"{self.directory}/static/",
                "location /app/": f"location {self.path}/",
            },
        )
        text = SURROUNDINGS.format(directory=self.directory, documented=documented)
        (self.directory / "nginx.conf").write_text(text)
