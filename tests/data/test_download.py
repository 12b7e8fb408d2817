"""Downloads: what is asked of a server, what is kept, what is thrown away."""

from __future__ import annotations

import hashlib
import io
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from maquette.data import download as module
from maquette.data.download import ProgressLine, SourceError, download
from maquette.errors import DataError, RunError

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """An HTTP server whose manners the test chooses, with a record of what it was asked."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.knows_ranges = True
        self.breaks_after: int | None = None
        self.waits = False
        self.asked: list[str | None] = []
        self.address = ""


@pytest.fixture
def server() -> Iterator[Server]:
    manners = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            manners.asked.append(wanted)
            start = 0
            if wanted and manners.knows_ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(manners.content):
                    self.send_error(416)
                    return
                self.send_response(206)
                last = len(manners.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
            else:
                self.send_response(200)
            body = manners.content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: manners.breaks_after])
            self.wfile.flush()
            while manners.waits:
                time.sleep(0.01)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        manners.address = f"http://127.0.0.1:{http.server_port}/file"
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield manners
        manners.waits = False
        http.shutdown()
        thread.join()


def fetch(source: object, part: Path, **options: object) -> None:
    address = source.address if isinstance(source, Server) else str(source)
    given = {"digest": DIGEST, "size": len(CONTENT)} | options
    download(address, part, **given)


def test_a_whole_file(server: Server, tmp_path: Path):
    seen: list[tuple[int, int]] = []
    part = tmp_path / "new folder" / ".part"
    fetch(server, part, report=lambda done, size: seen.append((done, size)))
    assert part.read_bytes() == CONTENT
    assert server.asked == [None]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_only_the_rest_is_asked_for(server: Server, tmp_path: Path):
    part = tmp_path / ".part"
    part.write_bytes(CONTENT[:1000])
    fetch(server, part)
    assert part.read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_server_without_ranges_sends_the_whole(server: Server, tmp_path: Path):
    server.knows_ranges = False
    part = tmp_path / ".part"
    part.write_bytes(b"x" * 1000)
    fetch(server, part)
    assert part.read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_connection_that_breaks_keeps_what_came(server: Server, tmp_path: Path):
    server.breaks_after = 4000
    part = tmp_path / ".part"
    with pytest.raises(
        SourceError, match=r"the connection ended after 4000 of 10240 bytes|Incompl"
    ):
        fetch(server, part)
    assert part.read_bytes() == CONTENT[:4000]
    server.breaks_after = None
    fetch(server, part)
    assert part.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=4000-"]


def test_a_server_that_falls_silent(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_TIMEOUT", 0.2)
    server.breaks_after, server.waits = 0, True
    with pytest.raises(SourceError, match="reading broke off: TimeoutError"):
        fetch(server, tmp_path / ".part")


def test_a_part_that_is_whole_is_not_asked_for(server: Server, tmp_path: Path):
    part = tmp_path / ".part"
    part.write_bytes(CONTENT)
    fetch(server, part)
    assert server.asked == []


@pytest.mark.parametrize("had", [b"y" * 1000, b"y" * len(CONTENT), b"y" * (len(CONTENT) + 1)])
def test_a_part_of_something_else_is_thrown_away(server: Server, tmp_path: Path, had: bytes):
    part = tmp_path / ".part"
    part.write_bytes(had)
    fetch(server, part)
    assert part.read_bytes() == CONTENT
    assert server.asked[-1] is None


def test_a_part_longer_than_the_servers_file(server: Server, tmp_path: Path):
    """The server answers 416, is asked for the whole, and has other bytes."""
    server.content = CONTENT[:500]
    part = tmp_path / ".part"
    part.write_bytes(CONTENT[:1000])
    with pytest.raises(DataError, match=r"sha256 \w+ of 500 bytes, expected"):
        fetch(server, part)
    assert server.asked == ["bytes=1000-", None, None]
    assert not part.exists()


def test_other_bytes_are_refused(server: Server, tmp_path: Path):
    server.content = CONTENT[:-1] + b"!"
    other = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(DataError) as error:
        fetch(server, tmp_path / ".part")
    assert str(error.value).endswith(
        f"is not the file the catalogue knows: sha256 {other} of 10240 bytes, expected {DIGEST} of "
        "10240. Nothing was kept; replace the file in the mirror and run again."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_end_is_not_read_to_its_end(tmp_path: Path):
    (tmp_path / "endless").write_bytes(CONTENT * 500)
    with pytest.raises(DataError, match="of more than 10240 bytes, expected"):
        fetch(tmp_path / "endless", tmp_path / ".part")
    assert not (tmp_path / ".part").exists()


@pytest.mark.parametrize("had", [0, 1000])
def test_a_folder_as_mirror_is_continued_too(tmp_path: Path, had: int):
    (tmp_path / "file").write_bytes(CONTENT)
    (tmp_path / ".part").write_bytes(CONTENT[:had])
    fetch(tmp_path / "file", tmp_path / ".part")
    assert (tmp_path / ".part").read_bytes() == CONTENT


def test_addresses_that_do_not_answer(tmp_path: Path):
    part = tmp_path / ".part"
    with pytest.raises(SourceError, match=r"^No such file or directory$"):
        fetch(tmp_path / "none", part)
    with pytest.raises(SourceError, match="refused"):
        fetch("http://127.0.0.1:9/file", part)
    with pytest.raises(SourceError, match="nonnumeric port"):
        fetch("http://127.0.0.1:port/file", part)
    assert not part.exists()


def test_a_full_disk(tmp_path: Path):
    (tmp_path / "file").write_bytes(CONTENT)
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / ".part").symlink_to("/dev/full")
    with pytest.raises(RunError) as error:
        fetch(tmp_path / "file", tmp_path / ".part")
    assert str(error.value) == (
        f"Could not write {tmp_path}/.part: No space left on device. Free 10240 bytes, or choose "
        "another cache folder with MAQUETTE_CACHE=FOLDER."
    )
    assert not (tmp_path / ".part").is_symlink()


KILLED = """
import sys
from pathlib import Path
from maquette.data.download import download
download(sys.argv[1], Path(sys.argv[2]), digest=sys.argv[3], size=int(sys.argv[4]))
"""


def test_a_killed_download_is_continued(server: Server, tmp_path: Path):
    server.content = CONTENT * 200  # longer than what is read at once
    size, digest = len(server.content), hashlib.sha256(server.content).hexdigest()
    server.breaks_after, server.waits = 3 << 19, True
    part = tmp_path / ".part"
    command = [sys.executable, "-c", KILLED, server.address, part, digest, str(size)]
    process = subprocess.Popen(list(map(str, command)))
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    had = part.stat().st_size
    assert 0 < had < size
    server.breaks_after, server.waits = None, False
    fetch(server, part, digest=digest, size=size)
    assert part.read_bytes() == server.content
    assert server.asked[-1] == f"bytes={had}-"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_one_line():
    stream = Terminal()
    line = ProgressLine("flowers", stream)
    line.interval = 0.0
    line(500_000, 2_000_000)
    line(2_000_000, 2_000_000)
    line.close()
    line.close()
    assert stream.getvalue() == ("\rflowers: 0.5 of 2.0 MB (25%)\rflowers: 2.0 of 2.0 MB (100%)\n")


def test_progress_elsewhere_is_plain_and_rare():
    stream = io.StringIO()
    line = ProgressLine("flowers", stream)
    line(1, 2)
    assert stream.getvalue() == ""
    line.interval = 0.0
    line(1_000_000, 2_000_000)
    line.close()
    assert re.fullmatch(r"flowers: 1\.0 of 2\.0 MB \(50%\)\n", stream.getvalue())
