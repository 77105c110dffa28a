"""A hub on this machine's loopback that serves a folder as both Hugging Face and ModelScope do, for one model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Served:
    """What is served, and what was asked for."""

    folder: Path
    id: str
    url: str = ""
    gated: bool = False
    """Whether everything but a log in is refused."""
    cut: set[str] = field(default_factory=set)
    """Files whose content breaks off half way."""
    asked: list[str] = field(default_factory=list)
    """The paths asked for."""

    def files(self) -> dict[str, bytes]:
        """Return path -> content."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}


class _Handler(BaseHTTPRequestHandler):
    served: Served

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        self.served.asked.append(path)
        if self.served.id not in path:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif self.served.gated:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif path.startswith("/api/v1/models/"):
            self._modelscope(path, query)
        else:
            self._huggingface(path)

    def _huggingface(self, path: str) -> None:
        files = self.served.files()
        if "/resolve/" in path:
            name = path.partition("/resolve/")[2].partition("/")[2]
            self._file(name, files.get(name))
        elif "/tree/" in path:
            tree = [{"type": "file", "path": n, "size": len(c), "oid": _digest(c)} for n, c in files.items()]
            self._json(tree)
        else:
            siblings = [{"rfilename": n, "size": len(c)} for n, c in files.items()]
            self._json({"id": self.served.id, "sha": COMMIT, "siblings": siblings})

    def _modelscope(self, path: str, query: dict[str, list[str]]) -> None:
        files = self.served.files()
        if path.endswith("/repo/files"):
            listed = [
                {
                    "Path": n,
                    "Name": n,
                    "Size": len(c),
                    "Type": "blob",
                    "Sha256": hashlib.sha256(c).hexdigest(),
                }
                for n, c in files.items()
            ]
            self._json({"Code": 200, "Success": True, "Data": {"Files": listed}})
        elif path.endswith("/repo"):
            name = query["FilePath"][0]
            self._file(name, files.get(name))
        else:
            self._json({"Code": 200, "Success": True, "Data": {"Path": self.served.id}})

    def _file(self, name: str, content: bytes | None) -> None:
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": COMMIT}
        self._send(200, content, headers, cut=name in self.served.cut)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, code: int, body: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True


def _digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@contextmanager
def hub_of(folder: Path, model: str) -> Iterator[Served]:
    """Serve a folder as the hub's model of an id, on a port of its own."""
    served = Served(folder, model)
    handler = type("Handler", (_Handler,), {"served": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


def environment_of(served: Served, home: Path) -> dict[str, str]:
    """Return the variables under which either client asks this hub, and keeps its cache in a folder."""
    return {
        "HF_ENDPOINT": served.url,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "MODELSCOPE_ENDPOINT": served.url,
        "MODELSCOPE_CACHE": str(home / "modelscope"),
        "MODELSCOPE_API_MAX_RETRIES": "1",  # each waits longer than the one before
        "MODELSCOPE_DOWNLOAD_MAX_RETRIES": "0",
    }
