"""The page and what it asks for over HTTP, on this machine's loopback address only.

A page of another site that is open in the same browser can send requests here too. None is let in
that could change anything: its Host header is not ours where a name was pointed at this address
(DNS rebinding), and its Origin is not ours in any case. Nothing is answered that it could read.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from scd_wm.play.app import App, SessionGoneError

ADDRESS = "127.0.0.1"
OUR_NAMES = ("127.0.0.1", "localhost")  # that a browser on this machine may call us by
MAX_BODY = 2**16  # bytes
API = "/api/"
IDLE_S = 300.0  # after which a silent connection is closed

HTML, CSS, JS = (f"text/{kind}; charset=utf-8" for kind in ("html", "css", "javascript"))
PAGE = {
    "/": ("scd_wm.play", "page.html", HTML),
    "/page.css": ("scd_wm.play", "page.css", CSS),
    "/report.css": ("scd_wm.report", "page.css", CSS),  # colours and type are those of reports
    "/page.js": ("scd_wm.play", "page.js", JS),
    "/controls.js": ("scd_wm.play", "controls.js", JS),
    "/drawing.js": ("scd_wm.play", "drawing.js", JS),
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server(ThreadingHTTPServer):
    """Serves one app on the loopback address.

    Args:
        app: What is called.
        port: To listen at; 0 takes a free one.

    Raises:
        OSError: If the port is taken.
    """

    daemon_threads = True  # a browser that keeps its connection open does not keep us alive

    def __init__(self, app: App, port: int = 0) -> None:
        self.app = app
        self.files = {
            path: (files(package).joinpath(name).read_bytes(), kind)
            for path, (package, name, kind) in PAGE.items()
        }
        super().__init__((ADDRESS, port), Handler)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, unless it is a browser that went away."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class RefusedError(Exception):
    """A request that is answered with an error: status and what is wrong."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: Server
    protocol_version = "HTTP/1.1"  # one connection for all steps
    disable_nagle_algorithm = True  # an answer is sent at once
    wbufsize = -1  # in one piece
    timeout = IDLE_S
    server_version, sys_version = "scd_wm", ""

    def do_GET(self) -> None:
        """Answer with a file of the page."""
        if self._has_body():
            self.close_connection = True
        try:
            check_host(self.headers)
            path = self.path.partition("?")[0]
            if path not in self.server.files:
                raise RefusedError(HTTPStatus.NOT_FOUND, f"nothing at {path}")
        except RefusedError as error:
            self._refuse(error)
        else:
            self._send(HTTPStatus.OK, *self.server.files[path])

    def do_POST(self) -> None:
        """Do what the page asks for."""
        # Until its body is read: else what another site put there would be the next request, and
        # come without that site's name.
        self.close_connection = True
        try:
            check_host(self.headers)
            check_origin(self.headers)
            told = self._call()
        except RefusedError as error:
            self._refuse(error)
        except SessionGoneError as error:
            self._refuse(RefusedError(HTTPStatus.GONE, str(error)))
        except ValueError as error:
            self._refuse(RefusedError(HTTPStatus.BAD_REQUEST, str(error)))
        except Exception as error:  # the page hears of a fault of ours, and so does the terminal
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}; the terminal says more"
            self._refuse(RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, message))
        else:
            self._send_json(HTTPStatus.OK, told)

    def log_message(self, *args: Any) -> None:
        """Write nothing for every request."""

    def _has_body(self) -> bool:
        return "Content-Length" in self.headers or "Transfer-Encoding" in self.headers

    def _call(self) -> Mapping[str, Any]:
        name = self.path.removeprefix(API)
        body = self._body()
        if not self.path.startswith(API) or name not in self.server.app.names:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"nothing at {self.path}")
        try:
            arguments = json.loads(body)
        except ValueError:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None
        if not isinstance(arguments, dict):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the body must be a JSON object")
        return self.server.app.call(name, arguments)

    def _body(self) -> bytes:
        """Return the body; once it is read the connection may go on."""
        kind = self.headers.get_content_type()
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "a request needs its Content-Length")
        if int(length) > MAX_BODY:
            message = f"a request has {MAX_BODY} bytes at most, got {length}"
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        body = self.rfile.read(int(length))
        self.close_connection = self.headers.get("Connection", "").lower() == "close"
        if kind != "application/json":
            message = f"a request is application/json, got {kind}"
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
        return body

    def _refuse(self, error: RefusedError) -> None:
        self._send_json(error.status, {"error": str(error)})

    def _send_json(self, status: HTTPStatus, told: Mapping[str, Any]) -> None:
        content = json.dumps(told, allow_nan=False).encode()
        self._send(status, content, "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        if status != HTTPStatus.OK and self.command == "POST" and self.close_connection:
            self.send_header("Connection", "close")
        for name, value in {**HEADERS, "Content-Type": kind}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def check_host(headers: Message) -> None:
    """Raise `RefusedError` unless a request calls us by a name of this machine, at whatever port.

    The port may be another one: that of a tunnel through which the page is looked at.
    """
    host = headers.get("Host") or ""
    name, _, port = host.partition(":")
    if name not in OUR_NAMES or not (port.isdecimal() or host == name):
        raise RefusedError(
            HTTPStatus.FORBIDDEN, f"this is served to {' and '.join(OUR_NAMES)} only"
        )


def check_origin(headers: Message) -> None:
    """Raise `RefusedError` if a request was made by a page that is not ours."""
    origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
    ours = origin is None or origin == f"http://{headers.get('Host')}"
    if not ours or site not in (None, "same-origin", "none"):
        raise RefusedError(HTTPStatus.FORBIDDEN, "pages of other sites may not drive this one")
