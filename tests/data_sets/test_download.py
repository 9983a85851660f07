from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from caffesplit.data.download import CHUNK, Download, fetch
from caffesplit.errors import DatabaseError

DATA = np.random.default_rng(0).integers(0, 256, 600_001, dtype=np.uint8).tobytes()


class Server(ThreadingHTTPServer):
    """Serves DATA as the test wants it, and notes what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.knows_ranges, self.breaks_off_after = DATA, True, len(DATA)
        self.status = 200
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files/data.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.ranges.append(asked)
        start = int(asked.split("=")[1].rstrip("-")) if asked and self.server.knows_ranges else 0
        if start and start >= len(self.server.data):
            self.send_error(416)
            return
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        data = self.server.data[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{len(DATA)}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: self.server.breaks_off_after])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def download(server: Server, data: bytes = DATA) -> Download:
    return Download(server.url, len(data), hashlib.sha256(data).hexdigest())


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"data.tar.gz.lock"}


def error_of(wanted: Download, folder) -> str:
    with pytest.raises(DatabaseError) as caught:
        fetch(wanted, folder)
    return str(caught.value)


def test_a_file_is_fetched_once_and_its_bytes_are_told(tmp_path, server):
    told: list[int] = []

    first = fetch(download(server), tmp_path / "cache", told.append)
    again = fetch(download(server), tmp_path / "cache", told.append)

    assert first == again == tmp_path / "cache/data.tar.gz"
    assert first.read_bytes() == DATA
    assert names(tmp_path / "cache") == {"data.tar.gz"}
    assert server.ranges == [None]
    assert told == sorted(told)
    assert told[-1] == len(DATA)


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_broken_download_is_gone_on_with_where_the_server_can(tmp_path, server, knows_ranges):
    server.knows_ranges, server.breaks_off_after = knows_ranges, 200_000
    assert error_of(download(server), tmp_path) == (
        f"{server.url}: the download stopped at 200,000 of 600,001 bytes (the connection was "
        "broken off), expected all of them\n"
        "Give the same command again: it goes on there. Or get data.tar.gz in another way,\n"
        "and name it with --archive."
    )
    assert names(tmp_path) == {"data.tar.gz.partial"}
    server.breaks_off_after = len(DATA)

    path = fetch(download(server), tmp_path)

    assert path.read_bytes() == DATA
    assert server.ranges == [None, "bytes=200000-"]
    assert names(tmp_path) == {"data.tar.gz"}


def test_a_server_that_has_less_than_was_held_is_asked_anew(tmp_path, server):
    server.data = DATA[:1000]
    (tmp_path / "data.tar.gz.partial").write_bytes(DATA[:2000])

    assert "stopped at 0 of 600,001 bytes (HTTP Error 416" in error_of(download(server), tmp_path)

    server.data = DATA
    assert fetch(download(server), tmp_path).read_bytes() == DATA
    assert server.ranges == ["bytes=2000-", None]


def test_a_wrong_checksum_is_told_and_nothing_of_the_file_is_kept(tmp_path, server):
    server.data = DATA[:-1] + bytes([DATA[-1] ^ 1])
    wrong = hashlib.sha256(server.data).hexdigest()

    assert error_of(download(server), tmp_path) == (
        f"{server.url}: a file with the SHA-256 {wrong}, "
        f"expected {hashlib.sha256(DATA).hexdigest()}\n"
        "It was deleted. Give the same command again to download it anew."
    )
    assert names(tmp_path) == set()


def test_what_was_held_of_another_file_is_found_out_by_the_checksum(tmp_path, server):
    (tmp_path / "data.tar.gz.partial").write_bytes(bytes(1000))
    assert "a file with the SHA-256" in error_of(download(server), tmp_path)
    assert fetch(download(server), tmp_path).read_bytes() == DATA


def test_no_more_is_received_than_the_file_has_but_for_a_chunk(tmp_path, server):
    told: list[int] = []

    with pytest.raises(DatabaseError, match="a file with the SHA-256"):
        fetch(download(server, DATA[:1000]), tmp_path, told.append)

    assert told[-1] <= 1000 + CHUNK < len(DATA)


def test_a_server_that_refuses_is_named_with_its_words(tmp_path, server):
    server.status = 404
    assert "stopped at 0 of 600,001 bytes (HTTP Error 404: Not Found)" in error_of(
        download(server), tmp_path
    )


def test_a_server_that_cannot_be_reached_is_named(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/data.tar.gz"
        message = error_of(Download(url, 10, ""), tmp_path)
    assert message.startswith(f"{url}: the download stopped at 0 of 10 bytes (<urlopen error ")
    assert "Connection refused" in message
