"""Somebody to whom deliveries are forwarded."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass(frozen=True)
class Got:
    path: str
    headers: dict[str, str]
    """by lower-case name"""
    body: bytes


class Receiver:
    """An HTTP server that takes what is posted, and answers by `answers` in turn, then 204."""

    def __init__(self, *answers: int) -> None:
        self.got: list[Got] = []
        """what was taken with a 2xx"""
        self.refused: list[Got] = []
        waiting, got, refused = list(answers), self.got, self.refused

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                each = Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                status = waiting.pop(0) if waiting else 204
                (got if status < 300 else refused).append(each)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
