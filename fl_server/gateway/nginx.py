"""nginx's configuration: the one door between boards and the SuperLink.

It ends TLS, asks for client certificates, and passes exactly the calls that a SuperNode makes under ``/v1/fleet/``;
the path that goes upstream is written here, never taken from the request. Each request is authorised anew by the
enrolment service, so a revoked device is out at its next one, on an open connection too. Bodies are bounded, read
whole before the SuperLink sees them, and may have no content encoding. Everything else is refused. For nginx 1.22.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from fl_core.errors import IdentityError
from fl_core.identity import CA_PATH, ENROL_PATH, RENEW_PATH, STATUS_PATH, write_secret
from fl_server.gateway import service
from fl_server.gateway.layout import GatewayFiles, checked_root, service_secret

FLEET_CALLS = (
    "activate-node",
    "deactivate-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "get-run",
    "get-fab",
    "push-object",
    "pull-object",
    "confirm-message-received",
)
"""What a SuperNode with a key calls. register-node and unregister-node are left out: only the operator names nodes."""

MAX_BODY_BYTES = 64 * 1024 * 1024
IN_MEMORY_BYTES = 1024 * 1024
CUT_OFF_S = 45
"""After a reload, and after so long on one connection, connections end; shorter than the 60 s a revocation may take."""

SLOTS = 4096
"""Connections that nginx holds, those to the SuperLink and the service among them."""
REQUESTS_OF_ADDRESS = SLOTS // 4
"""Requests that one address may have open at once: many devices may stand behind it, and others find room beside them.

An idle connection has none, and nginx closes idle ones when it runs out.
"""
REQUESTS_OF_DEVICE = 32
"""What a board's forwarder can have open; its SuperNode has four: two parts of a message, a question, a heartbeat."""

_WORKER_USER = "www-data"  # Debian's, where nginx is started by root


@dataclass(frozen=True)
class GatewaySettings:
    """Where the gateway listens and what lies behind it.

    ``superlink`` is a URL of loopback, such as https://127.0.0.1:8000; with https its certificate is checked against
    the authority of the same folder.
    """

    port: int
    service_port: int
    superlink: str
    host: str = "0.0.0.0"
    max_body_bytes: int = MAX_BODY_BYTES
    requests_of_address: int = REQUESTS_OF_ADDRESS


def write_nginx_conf(root: Path, settings: GatewaySettings) -> Path:
    """Write ``root``/gateway/nginx.conf, and give its path; an nginx that runs keeps its old one until a reload.

    Raises:
        IdentityError: ``root`` has no authority, or a path in it cannot stand in nginx's configuration.
    """
    files = checked_root(root.resolve())
    if any(character in str(files.root) for character in "\"'\\;{}$ \n"):
        raise IdentityError(f"{files.root}: expected a path without spaces, quotes, braces or dollar signs for nginx")
    write_secret(files.nginx_conf, _configuration(files, settings).encode())
    return files.nginx_conf


def nginx_command(root: Path) -> list[str]:
    """The command line that runs the gateway of ``root`` in the foreground; errors go to standard error.

    Raises:
        IdentityError: nginx is not installed.
    """
    files = GatewayFiles(root.resolve())
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise IdentityError("nginx: expected on this machine, found none; install it: apt install nginx-light")
    return [program, "-p", str(files.nginx_conf.parent), "-c", str(files.nginx_conf), "-e", "stderr"]


def reload_nginx(root: Path) -> bool:
    """Let the running gateway read its files again and end all connections within ``CUT_OFF_S``; False if none runs.

    Raises:
        IdentityError: it belongs to another user.
    """
    files = GatewayFiles(root.resolve())
    try:
        pid = int(files.nginx_pid.read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    if str(files.nginx_conf).encode() not in command:  # a number that another process has by now
        return False
    try:
        os.kill(pid, signal.SIGHUP)
    except PermissionError:
        raise IdentityError(f"nginx {pid}: it runs as another user; reload it as that user") from None
    return True


def _configuration(files: GatewayFiles, settings: GatewaySettings) -> str:
    calls = "|".join(FLEET_CALLS)
    trust = (
        f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {files.ca_certificate}; proxy_ssl_name localhost;"
        if settings.superlink.startswith("https://")
        else ""
    )
    behind = settings.superlink.split("://", 1)
    return f"""# Written by Stonecrop; every start writes it again.
{_owner_lines()}
daemon off;
pid {files.nginx_pid};
worker_processes 1;
worker_rlimit_nofile 8192;
worker_shutdown_timeout {CUT_OFF_S}s;
events {{ worker_connections {SLOTS}; }}

http {{
    access_log off;
    server_tokens off;
    default_type application/json;
    {_temporary_paths(files)}

    limit_req_zone $binary_remote_addr zone=sign:1m rate=10r/s;
    limit_req_zone $binary_remote_addr zone=ask:1m rate=50r/s;
    limit_req_status 429;
    limit_conn_zone $binary_remote_addr zone=address:1m;
    limit_conn_zone $device zone=device:1m;
    limit_conn_status 503;
    map $http_content_encoding $encoded {{ default 1; "" 0; identity 0; }}
    map $ssl_client_verify $certificate {{ default ""; SUCCESS $ssl_client_escaped_cert; }}
    map $ssl_client_verify $device {{ default ""; SUCCESS $ssl_client_fingerprint; }}

    upstream superlink {{ server {behind[1]}; keepalive 32; }}
    upstream service {{ server 127.0.0.1:{settings.service_port}; keepalive 16; keepalive_timeout 30s; }}

    server {{
        listen {settings.host}:{settings.port} ssl backlog=1024;
        ssl_certificate {files.server_certificate};
        ssl_certificate_key {files.server_key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache none;
        ssl_session_tickets off;
        ssl_client_certificate {files.ca_certificate};
        ssl_verify_client optional;
        ssl_verify_depth 1;

        client_header_timeout 10s;
        client_header_buffer_size 2k;
        large_client_header_buffers 4 8k;
        client_body_timeout 20s;
        client_body_buffer_size {IN_MEMORY_BYTES};
        client_max_body_size {settings.max_body_bytes};
        send_timeout 20s;
        keepalive_timeout 30s;
        keepalive_time {CUT_OFF_S}s;
        lingering_close off;
        reset_timedout_connection on;

        limit_conn address {settings.requests_of_address};
        limit_conn device {REQUESTS_OF_DEVICE};

        proxy_http_version 1.1;
        proxy_connect_timeout 5s;
        proxy_next_upstream off;

        error_page 400 =400 @bad;
        error_page 401 =401 @refused;
        error_page 403 =403 @denied;
        error_page 404 =404 @unknown;
        error_page 413 =413 @large;
        error_page 429 =429 @fast;
        error_page 495 496 =401 @certificate;
        error_page 503 @busy;
        error_page 500 502 504 =503 @away;
        location @bad {{ return 400 '{{"code": 400, "detail": "the gateway cannot read this request"}}'; }}
        location @denied {{ return 403 '{{"code": 403, "detail": "the gateway does not pass this method"}}'; }}
        location @unknown {{ return 404 '{{"code": 404, "detail": "the gateway does not pass this path"}}'; }}
        location @large {{ return 413 '{{"code": 413, "detail": "more than {settings.max_body_bytes} bytes"}}'; }}
        location @fast {{ return 429 '{{"code": 429, "detail": "too many requests from this address"}}'; }}
        location @certificate {{ return 401 '{{"code": 401, "detail": "certificate refused: $ssl_client_verify"}}'; }}
        location @busy {{ return 503 '{{"code": 503, "detail": "too many requests at once from here"}}'; }}
        location @away {{ return 503 '{{"code": 503, "detail": "the server is not ready"}}'; }}
        location @refused {{ return 401 '{{"code": 401, "detail": "$refusal"}}'; }}

        location / {{ return 404; }}

        location ~ ^/v1/fleet/(?<call>{calls})$ {{
            limit_except POST {{ deny all; }}
            if ($encoded) {{ return 415 '{{"code": 415, "detail": "content encodings are refused"}}'; }}
            auth_request /internal/auth;
            auth_request_set $refusal $upstream_http_x_refusal;
            {trust}
            proxy_set_header Connection "";
            proxy_set_header {service.NODE_KEY_HEADER} $http_flwr_public_key;
            proxy_set_header Content-Encoding "";
            proxy_set_header Accept-Encoding "";
            proxy_read_timeout {CUT_OFF_S}s;
            proxy_send_timeout {CUT_OFF_S}s;
            proxy_max_temp_file_size {settings.max_body_bytes};
            proxy_pass {behind[0]}://superlink/v1/fleet/$call;
        }}

        location = /internal/auth {{
            internal;
            proxy_pass_request_body off;
            proxy_pass_request_headers off;
            proxy_set_header Content-Length "";
            proxy_set_header {service.NODE_KEY_HEADER} $http_flwr_public_key;
            {_service_lines(files)}
            proxy_pass http://service{service.AUTH_PATH};
        }}

        location = {ENROL_PATH} {{
            limit_except POST {{ deny all; }}
            limit_req zone=sign burst=50 nodelay;
            {_small_body_lines(files)}
            proxy_pass http://service{ENROL_PATH};
        }}

        location = {RENEW_PATH} {{
            limit_except POST {{ deny all; }}
            limit_req zone=sign burst=50 nodelay;
            {_small_body_lines(files)}
            proxy_pass http://service{RENEW_PATH};
        }}

        location = {STATUS_PATH} {{
            limit_except GET {{ deny all; }}
            limit_req zone=ask burst=100 nodelay;
            {_small_body_lines(files)}
            proxy_pass http://service{STATUS_PATH};
        }}

        location = {CA_PATH} {{
            limit_except GET {{ deny all; }}
            limit_req zone=ask burst=100 nodelay;
            {_small_body_lines(files)}
            proxy_pass http://service{CA_PATH};
        }}
    }}
}}
"""


def _service_lines(files: GatewayFiles) -> str:
    """What the service needs to know, and nothing of what the client claims."""
    return (
        f'proxy_set_header Connection ""; proxy_set_header {service.SECRET_HEADER} {service_secret(files)}; '
        f"proxy_set_header {service.CERTIFICATE_HEADER} $certificate; proxy_read_timeout 10s;"
    )


def _small_body_lines(files: GatewayFiles) -> str:
    return (
        f"client_max_body_size {service.MAX_REQUEST_BYTES}; client_body_buffer_size {service.MAX_REQUEST_BYTES}; "
        "proxy_pass_request_headers off; proxy_set_header Content-Length $content_length; "
        f"proxy_set_header Content-Encoding $http_content_encoding; {_service_lines(files)}"
    )


def _owner_lines() -> str:
    """Started by root, nginx reads its keys as root and works as an unprivileged user."""
    if os.geteuid() != 0:
        return ""
    try:
        pwd.getpwnam(_WORKER_USER)
    except KeyError:
        return ""
    return f"user {_WORKER_USER};"


def _temporary_paths(files: GatewayFiles) -> str:
    """Started by root, nginx has folders of its own that its unprivileged workers reach; else they lie here."""
    if os.geteuid() == 0:
        return ""
    folder = files.nginx_conf.parent / "bodies"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
