"""What gunicorn is told besides address, workers and threads, which come from the broker's own settings.

`broker serve` loads this file from the installation; a copy elsewhere changes nothing. Every name below is a gunicorn
setting (https://gunicorn.org/reference/settings/); those with a security meaning are said even where gunicorn's default
is the same.
"""

# ruff: noqa: INP001 - a file that is loaded by its path, in no package
from pathlib import Path

# Threads, since a request waits for the directory, STS and the database more than it computes.
worker_class = "gthread"
# The application is made once, before the workers are forked: faults show at the start, and memory is shared.
preload_app = True

# A worker whose main loop has not moved for this long is replaced (seconds). It does not limit a request: the limits of
# each call are in the settings, [directory] and [aws].
timeout = 30
# A stopping worker finishes the requests it has within this time (seconds); an issuance with slow partners fits. The
# service manager has to wait longer than this (federation-broker.service, TimeoutStopSec).
graceful_timeout = 30
# A connection without a request stays open this long (seconds): longer than the 60 seconds of common load balancers,
# or they would send a request into a connection that is being closed.
keepalive = 75

# The largest request line and header fields (bytes, number, bytes). The portal's own stay far below, but for a search
# of the audit: each filter is in the address, where a Japanese letter takes 9 bytes. Bodies are limited by the
# application.
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 8190

# Nothing that a proxy claims is believed here: the application knows its address (public_url) and its proxies
# (trusted_proxies), and reads X-Forwarded-For itself. The first is empty because gunicorn would otherwise trust
# loopback, or what the environment variable FORWARDED_ALLOW_IPS says.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
proxy_protocol = "off"
proxy_allow_ips = ""
# A header with an underscore could pass for another one in the WSGI environment.
header_map = "drop"
strip_header_spaces = False
permit_obsolete_folding = False
permit_unconventional_http_method = False
permit_unconventional_http_version = False
casefold_http_method = False

# Nothing listens besides the port: no control socket, no statistics, no PROXY or uWSGI protocol.
control_socket_disable = True
statsd_host = None
protocol = "http"
http_protocols = "h1"
uwsgi_allow_ips = ""

# The application writes one structured line for each request, with its reference id; gunicorn reports only itself.
accesslog = None
errorlog = "-"
loglevel = "info"

# The heartbeat of the workers is a file that is touched every second: in memory, or a busy disk would look like a
# worker that hangs.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - it is unlinked as soon as it is open
