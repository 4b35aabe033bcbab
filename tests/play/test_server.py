"""What the server answers, what it refuses, and that the command ends cleanly."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scd_wm.cli import main
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.play import server as server_module
from scd_wm.play.app import MAX_SESSIONS, App
from scd_wm.play.run import PlayConfig, open_world, serve, summary
from scd_wm.play.server import Server
from tests.play.browser_client import Client, serving

JS = "text/javascript; charset=utf-8"


def pixels(address: str) -> np.ndarray:
    """Return the image that a `data:` address holds."""
    kind, _, content = address.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_the_page_and_all_that_it_names_is_served(client: Client) -> None:
    status, headers, page = client.ask("GET", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    names = re.findall(r'(?:href|src)="(/[^"]+)"', page.decode())
    assert "/page.js" in names
    for name in names:
        status, headers, content = client.ask("GET", name)
        assert status == 200
        if headers["Content-Type"] == JS:
            names += [n for n in re.findall(r'from "(.+)"', content.decode()) if n not in names]
    assert {*names, "/"} == {*server_module.PAGE}


def test_nothing_on_the_page_points_elsewhere(client: Client) -> None:
    for path in server_module.PAGE:
        content = client.ask("GET", path)[2].decode()
        assert not re.search(r"(https?:)?//[\w.]+\.\w+/", content), path


def test_images_arrive_pixel_by_pixel(client: Client, data: RobotDataset) -> None:
    told = client.good("open")
    np.testing.assert_array_equal(pixels(told["images"]["top"]), data.images(0, "top", 0, 1)[0])
    told = client.good("reset", episode=1, frame=2, seed=4, beside=True)
    wanted = data.images(1, "top", 2, 3)[0]
    np.testing.assert_array_equal(pixels(told["images"]["top"]), wanted)
    np.testing.assert_array_equal(pixels(told["recorded_images"]["top"]), wanted)
    assert told["start"] == {"episode": 1, "name": "demo_1", "frame": 2, "seed": 4}
    told = client.good("peek", episode=0, frame=7)
    np.testing.assert_array_equal(pixels(told["images"]["top"]), data.images(0, "top", 7, 8)[0])


def test_a_page_drives_branches_and_goes_back(client: Client, app: App) -> None:
    client.good("open")
    first = [client.good("step", action=[x, -x])["images"] for x in (0.5, 1)]
    told = client.good("branch")
    assert [(b["id"], b["here"], b["time"]) for b in told["branches"]] == [
        (1, False, 2),
        (2, True, 2),
    ]
    assert client.good("undo", steps=2)["time"] == 0
    again = [client.good("step", action=[x, -x])["images"] for x in (0.5, 1)]
    assert again == first
    (snapshot,) = client.good("snapshot")["snapshots"]
    assert client.good("step", replay=True)["time"] == 3
    told = client.good("restore", id=snapshot["id"])
    assert (told["time"], told["images"], len(told["trace"])) == (2, first[1], 3)
    assert client.good("forget", id=snapshot["id"])["snapshots"] == []
    assert client.good("switch", id=1)["branch"] == 1
    assert [b["id"] for b in client.good("drop", id=2)["branches"]] == [1]
    assert client.good("reset", episode=None)["start"]["episode"] is None
    assert app.played.num_frames == 5
    assert app.played.busy_s > 0


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("step", {"action": [1]}, "an action has 2 values, got 1 values"),
        ("step", {"action": [1, 2]}, "value 2 of the action must be within -1 to 1, got 2"),
        ("step", {}, "an action has 2 values, got None"),
        ("step", {"action": [0, 0], "num_steps": 0}, "num_steps must be .*0"),
        ("step", {"action": [0, 0], "num_steps": 1.5}, "num_steps must be a whole number, got 1.5"),
        ("step", {"action": [0, 0], "solver": "magic"}, "solver must be one of .*'magic'"),
        ("step", {"action": [0, 0], "solver": 3}, "solver must be a name, got 3"),
        ("step", {"replay": 1}, "replay must be true or false, got 1"),
        ("reset", {"episode": 9}, "no episode 9; the data has 0 to 1"),
        ("reset", {"episode": 0, "frame": 8}, "no frame 8 in episode 0, demo_0: it has 0 to 7"),
        ("reset", {"episode": 0, "seed": -1}, "seed must be 0 to"),
        ("reset", {"episode": "0"}, "episode must be a whole number, got '0'"),
        ("peek", {"episode": 0, "frame": -1}, "no frame -1"),
        ("undo", {"steps": 1}, "0 steps can be undone, asked for 1"),
        ("restore", {"id": 3}, "no snapshot 3; there are none"),
        ("switch", {"id": 3}, r"no branch 3; there are \[1\]"),
        ("drop", {"id": 1}, "the only branch cannot be given up"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_changes_nothing(
    client: Client, name: str, given: dict[str, Any], message: str
) -> None:
    before = client.good("open")
    status, told = client.call(name, **given)
    assert status == 400
    assert re.match(message, told["error"])
    assert "\n" not in told["error"]
    after = client.good("switch", id=1)
    assert after == {k: v for k, v in before.items() if k in after}


def test_each_page_has_a_session_and_the_one_idle_longest_makes_room(client: Client) -> None:
    pages = [Client(client.port) for _ in range(MAX_SESSIONS)]
    for page in pages:
        page.good("open")
    pages[0].good("step", action=[1, 1])
    assert pages[1].good("switch", id=1)["time"] == 0  # not moved by the other page
    pages[0].good("step", action=[1, 1])
    late = Client(client.port)
    late.good("open")
    status, told = pages[2].call("step", action=[1, 1])
    assert status == 410
    assert "reload the page" in told["error"]
    assert pages[0].good("switch", id=1)["time"] == 2
    assert client.call("step", action=[1, 1])[0] == 410  # has never opened one


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # a name that was pointed at this address
        {"Host": "evil.example:8642"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost:8642:1"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},  # of a sandboxed frame, or a file
        {"Origin": "https://127.0.0.1"},
        {"Origin": "http://127.0.0.1:1"},  # another server of this machine
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_sites_are_refused(client: Client, headers: dict[str, str]) -> None:
    status, told = client.call("open", headers=headers)
    assert status == 403
    assert {*told} == {"error"}
    assert client.ask("GET", "/", None, **headers)[0] == (403 if "Host" in headers else 200)


def test_our_own_page_is_let_in_through_a_tunnel_too(client: Client) -> None:
    for host in (f"127.0.0.1:{client.port}", f"localhost:{client.port}", "localhost:9000"):
        headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert client.call("open", headers=headers)[0] == 200


def test_a_form_of_another_page_cannot_send_what_is_taken(client: Client) -> None:
    body = b'{"session": ""}'
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert client.ask("POST", "/api/open", body, Content_Type=kind)[0] == 415


def test_what_is_no_request_of_ours_is_refused(client: Client) -> None:
    assert client.ask("GET", "/../server.py")[0] == 404
    assert client.ask("GET", "/api/open")[0] == 404
    assert client.ask("POST", "/", b"{}")[0] == 404
    assert client.ask("POST", "/api/__init__", b"{}")[0] == 404
    assert client.ask("POST", "/api/open", b"{")[0] == 400
    assert client.ask("POST", "/api/open", b"[]")[0] == 400
    assert client.ask("POST", "/api/open", b"{}", Content_Length="")[0] == 411
    assert client.ask("POST", "/api/open", b"{}", Content_Length="99999999")[0] == 413
    assert client.ask("PUT", "/api/open", b"{}")[0] == 501


def test_it_listens_on_the_loopback_address_only(app: App) -> None:
    with serving(app) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_the_command_serves_until_ctrl_c_and_says_what_was_played(
    model_path: Path, data_path: Path
) -> None:
    arguments = ["play", str(model_path), str(data_path), "--no-open", "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "scd_wm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in the background, such as these tests, deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    told = process.stdout.readline()
    found = re.fullmatch(r"playing small at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)\n", told)
    assert found, told + process.communicate()[1]
    client = Client(int(found[1]))
    client.good("open")
    client.good("step", action=[1, 1])
    process.send_signal(signal.SIGINT)
    shown, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert re.search(r"played .*small\n  pages +1\n  frames imagined +1\n  frames a second", shown)


def test_it_ends_as_cleanly_when_the_process_is_asked_to_end(app: App) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Server(app) as server:
        asked = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
        asked.start()
        serve(server)  # returns
        asked.join()
    assert signal.getsignal(signal.SIGTERM) == before
    assert summary(server) == {"pages": 0, "frames imagined": 0}


def test_what_cannot_be_served_is_told_before_it_begins(
    model_path: Path, data_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*arguments: str) -> str:
        assert main(["play", "--no-open", *arguments]) == 2
        return capsys.readouterr().err

    assert "--no-data begins from nothing" in error(str(model_path), str(data_path), "--no-data")
    assert "name the data set" in error(str(model_path))
    assert "port must be 0 to 65535, got 70000" in error(str(model_path), "--port", "70000")
    assert "history must be 1 or more" in error(str(model_path), "--history", "0")
    assert "no run or model folder" in error("nowhere")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "choose another --port" in error(str(model_path), "--no-data", "--port", port)


def test_a_shipped_model_begins_from_fresh_episodes_of_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # there is no push_t_tiny here
    monkeypatch.setattr("scd_wm.play.run.FRESH_EPISODES", 1)
    world = open_world("push_t_tiny", None, PlayConfig(), tmp_path, "cpu")
    assert "recording 1 episodes of scd_wm/PushT-v0" in capsys.readouterr().out
    assert world.data is not None
    assert len(world.data.episodes) == 1
    _, shown = world.from_frame(0, 20, seed=0)
    assert shown.images["top_image"].shape == (64, 64, 3)


def test_what_a_refused_request_carries_is_no_request(client: Client, app: App) -> None:
    """A page of another site may send any text as a body, which must not be read as a request."""
    inner = (
        f"POST /api/open HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    for first in ("POST /api/open", "GET /", "GET /nowhere"):
        outer = (
            f"{first} HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
            "Origin: http://evil.example\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(inner)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
            connection.sendall((outer + inner).encode())
            told = b""
            while part := connection.recv(2**16):
                told += part
        assert told.count(b"HTTP/1.1 ") == 1
    assert app.played.num_sessions == 0
