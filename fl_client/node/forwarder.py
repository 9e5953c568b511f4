"""The forwarder on a board's loopback: it adds the client certificate that Flower's SuperNode cannot offer.

``flower-supernode --superlink 127.0.0.1:PORT --root-certificates loopback.pem`` talks to it and signs with its node
key; Flower refuses to sign without TLS, so the forwarder has a certificate of its own for loopback. It speaks TLS to
the gateway with the board's certificate and checks the server against the authority. It passes Fleet calls only,
writes nothing to the board's flash, and reads a renewed certificate at its next connection, without a reload. The
server's name is looked up at the start: without a network the start may fail and is tried again by whoever
supervises it. For nginx 1.22.
"""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from fl_client.node.identity import Identity
from fl_client.node.keys import make_loopback_certificate
from fl_core.errors import IdentityError
from fl_core.identity import write_secret

_READ_TIMEOUT_S = 50


def write_forwarder_conf(identity: Identity, folder: Path, port: int) -> Path:
    """Write ``folder``/nginx.conf for a forwarder on 127.0.0.1:``port``, and give its path.

    Raises:
        IdentityError: a path cannot stand in nginx's configuration.
    """
    folder = folder.resolve()
    paths = (folder, identity.folder.resolve())
    if any(character in str(path) for path in paths for character in "\"'\\;{}$ \n"):
        raise IdentityError(f"{folder}: expected a path without spaces, quotes, braces or dollar signs for nginx")
    make_loopback_certificate(identity.loopback_certificate, _loopback_key(identity))
    (folder / "unused").mkdir(parents=True, exist_ok=True)
    path = folder / "nginx.conf"
    write_secret(path, _configuration(identity, folder, port).encode())
    return path


def forwarder_command(folder: Path) -> list[str]:
    """The command line that runs the forwarder of ``folder`` in the foreground; errors go to standard error.

    Raises:
        IdentityError: nginx is not installed.
    """
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise IdentityError("nginx: expected on this board, found none; install it: apt install nginx-light")
    folder = folder.resolve()
    return [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def _configuration(identity: Identity, folder: Path, port: int) -> str:
    host = f"[{identity.host}]" if ":" in identity.host else identity.host
    keys = Path(identity.keys.nginx_name).resolve()
    # Folders of its own, where nothing is ever written: the system's may belong to another nginx.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder / 'unused' / kind};" for kind in kinds)
    # nginx reads the two files through variables at each handshake, so that a renewal needs no reload.
    return f"""# Written by Stonecrop; every start writes it again.
{_owner_lines(identity)}
daemon off;
pid {folder / "nginx.pid"};
worker_processes 1;
events {{ worker_connections 64; }}

http {{
    access_log off;
    server_tokens off;
    default_type application/json;
    {temporary}

    map "" $device_certificate {{ default {identity.certificate.resolve()}; }}
    map "" $device_key {{ default {keys}; }}

    upstream gateway {{ server {host}:{identity.port} max_fails=0; keepalive 4; keepalive_timeout 20s; }}

    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {identity.loopback_certificate.resolve()};
        ssl_certificate_key {_loopback_key(identity).resolve()};
        ssl_protocols TLSv1.3;
        client_max_body_size 0;
        client_header_timeout 10s;
        client_body_timeout 20s;
        error_page 500 502 504 =503 @away;
        location @away {{ return 503 '{{"code": 503, "detail": "the gateway cannot be reached"}}'; }}
        location / {{ return 404 '{{"code": 404, "detail": "the forwarder passes Fleet calls only"}}'; }}

        location /v1/fleet/ {{
            proxy_http_version 1.1;
            proxy_set_header Host {host};
            proxy_set_header Connection "";
            proxy_ssl_certificate $device_certificate;
            proxy_ssl_certificate_key $device_key;
            proxy_ssl_trusted_certificate {identity.ca.resolve()};
            proxy_ssl_verify on;
            proxy_ssl_verify_depth 1;
            proxy_ssl_name {identity.host};
            proxy_ssl_server_name on;
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_connect_timeout 5s;
            proxy_send_timeout {_READ_TIMEOUT_S}s;
            proxy_read_timeout {_READ_TIMEOUT_S}s;
            proxy_pass https://gateway;
        }}
    }}
}}
"""


def _loopback_key(identity: Identity) -> Path:
    return identity.loopback_certificate.with_suffix(".key")


def _owner_lines(identity: Identity) -> str:
    """Started by root, it works as the user who may use the key."""
    if os.geteuid() != 0:
        return ""
    return f"user {pwd.getpwuid(identity.keys.owner_uid).pw_name};"
