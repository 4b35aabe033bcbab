"""What a page does over HTTP, and a server to do it with."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

from scd_wm.play.app import App
from scd_wm.play.server import Server


@contextlib.contextmanager
def serving(app: App) -> Iterator[Server]:
    """Serve an app on a free port."""
    with Server(app) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Client:
    """Asks as a page would: one connection, JSON, headers of a browser."""

    def __init__(self, port: int) -> None:
        self.port, self.session = port, ""

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body; names of headers have _ for -; "" leaves one out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {"Host": f"127.0.0.1:{self.port}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connection.putrequest(method, path, skip_host=True)
        if body is not None:
            given = {"Content-Type": "application/json", "Content-Length": str(len(body))} | given
        for name, value in given.items():
            if value:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        told = (answer.status, dict(answer.getheaders()), answer.read())
        connection.close()
        return told

    def call(self, name: str, headers: dict[str, str] | None = None, **given: Any) -> Any:
        """Return the status and what was told."""
        body = json.dumps({"session": self.session, **given}).encode()
        status, _, content = self.ask("POST", f"/api/{name}", body, **(headers or {}))
        return status, json.loads(content)

    def good(self, name: str, **given: Any) -> dict[str, Any]:
        """Return what was told, once it is sure that nothing was wrong."""
        status, told = self.call(name, **given)
        assert status == 200, told
        if name == "open":
            self.session = told["session"]
        found: dict[str, Any] = told
        return found
