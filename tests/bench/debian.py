"""The peers from Debian, each with a configuration of its own: as shipped where that matters, log lines to a file."""

from __future__ import annotations

import shutil

from tests.bench import script
from tests.bench.peers import Peer, Room

_MOST = 1200
"""Connections at once that each is allowed, where it has a limit."""


def _nginx(room: Room, port: int) -> list[str]:
    work = room.work
    text = f"""
        daemon off; pid {work}/nginx.pid; error_log {work}/nginx-error.log; worker_processes auto;
        user www-data; worker_rlimit_nofile 8192;
        events {{ worker_connections 4096; }}
        http {{
            access_log {work}/nginx-access.log; sendfile on; tcp_nopush on; default_type application/octet-stream;
            client_body_temp_path {work}/nginx-body; proxy_temp_path {work}/nginx-proxy;
            fastcgi_temp_path {work}/nginx-fastcgi; uwsgi_temp_path {work}/nginx-uwsgi;
            scgi_temp_path {work}/nginx-scgi; client_header_timeout 600; client_body_timeout 600;
            server {{ listen 127.0.0.1:{port} backlog=4096; root {room.root}; }}
        }}
    """
    return ["/usr/sbin/nginx", "-e", f"{work}/nginx-error.log", "-c", room.configuration("nginx.conf", text)]


def _apache(room: Room, port: int) -> list[str]:
    modules = "/usr/lib/apache2/modules"
    text = f"""
        LoadModule mpm_prefork_module {modules}/mod_mpm_prefork.so
        LoadModule authz_core_module {modules}/mod_authz_core.so
        ServerRoot {room.work}
        ServerName bench
        User www-data
        Group www-data
        PidFile {room.work}/apache.pid
        Mutex file:{room.work}
        DefaultRuntimeDir {room.work}
        ErrorLog {room.work}/apache-error.log
        LogFormat "%h %l %u %t \\"%r\\" %>s %O" common
        CustomLog {room.work}/apache-access.log common
        Listen 127.0.0.1:{port} http
        AcceptFilter http none
        ListenBacklog 4096
        Timeout 600
        ServerLimit {_MOST}
        MaxRequestWorkers {_MOST}
        StartServers 16
        MinSpareServers 16
        MaxSpareServers 64
        EnableSendfile On
        DocumentRoot {room.root}
        <Directory {room.root}>
            Require all granted
        </Directory>
    """
    return ["/usr/sbin/apache2", "-f", room.configuration("apache.conf", text), "-DFOREGROUND"]


def _lighttpd(room: Room, port: int) -> list[str]:
    logs = room.work / "lighttpd"  # it opens them when it has dropped its powers
    logs.mkdir(exist_ok=True)
    shutil.chown(logs, "www-data", "www-data")
    text = f"""
        server.modules = ("mod_accesslog")
        server.document-root = "{room.root}"
        server.bind = "127.0.0.1"
        server.port = {port}
        server.username = "www-data"
        server.groupname = "www-data"
        server.errorlog = "{logs}/error.log"
        accesslog.filename = "{logs}/access.log"
        server.listen-backlog = 4096
        server.max-connections = 4096
        server.max-fds = 8192
        server.max-worker = 2
        server.max-read-idle = 600
        server.max-keep-alive-idle = 600
    """
    return ["/usr/sbin/lighttpd", "-D", "-f", room.configuration("lighttpd.conf", text)]


def _busybox(room: Room, port: int) -> list[str]:
    return ["/bin/busybox", "httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", str(room.root)]


def _rsyncd(room: Room, port: int) -> list[str]:
    text = f"""
        log file = {room.work}/rsyncd-transfers.log
        pid file = {room.work}/rsyncd-{port}.pid
        transfer logging = yes
        listen backlog = 4096
        reverse lookup = no
        use chroot = no
        [files]
        path = {room.root}
        read only = yes
    """
    command = ["/usr/bin/rsync", "--daemon", "--no-detach", "--address", "127.0.0.1", "--port", str(port)]
    return [*command, "--config", room.configuration(f"rsyncd-{port}.conf", text)]


def _vsftpd(room: Room, port: int) -> list[str]:
    empty = room.work / "vsftpd-empty"
    empty.mkdir(exist_ok=True)
    text = f"""
        listen=YES
        listen_ipv6=NO
        background=NO
        listen_address=127.0.0.1
        listen_port={port}
        anonymous_enable=YES
        local_enable=NO
        anon_root={room.root}
        secure_chroot_dir={empty}
        xferlog_enable=YES
        vsftpd_log_file={room.work}/vsftpd-transfers.log
        max_clients=0
        max_per_ip=0
        connect_from_port_20=NO
        idle_session_timeout=600
    """
    lines = "\n".join(line.strip() for line in text.strip().splitlines())  # no space is allowed around anything
    return ["/usr/sbin/vsftpd", room.configuration("vsftpd.conf", lines + "\n")]


def _tcpserver(room: Room, port: int) -> list[str]:
    options = ["-c", str(_MOST), "-b", "4096", "-H", "-R", "-l", "bench"]
    return ["/usr/bin/tcpserver", *options, "127.0.0.1", str(port), f"{room.programs}/tcp_handler", str(room.root)]


NGINX = Peer("nginx", "nginx", script.http, _nginx, "nginx")
APACHE = Peer("apache", "Apache, prefork", script.http, _apache, "apache2-bin")
LIGHTTPD = Peer("lighttpd", "lighttpd", script.http, _lighttpd, "lighttpd")
BUSYBOX = Peer("busybox", "busybox httpd", script.http, _busybox, "busybox", note="no log; its backlog is 9")
RSYNCD = Peer("rsyncd", "rsync daemon", script.rsync_list, _rsyncd, "rsync", content=False, note="list of modules only")
VSFTPD = Peer("vsftpd", "vsftpd", script.ftp_greeting, _vsftpd, "vsftpd", content=False, note="greeting only")
TCPSERVER = Peer("tcpserver", "tcpserver, C handler", script.native, _tcpserver, "ucspi-tcp", note="no log")

PEERS = [NGINX, APACHE, LIGHTTPD, BUSYBOX, RSYNCD, VSFTPD, TCPSERVER]
