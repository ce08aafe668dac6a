"""One HTTP/2 connection whose streams are read or not, as a test says.

The usual clients give every stream as much window as the whole connection, so that an unread stream
starves its neighbours on the client's own side. Here a stream that is not read stops at its own
window, and the connection's stays open: what is late then is late because of the server.
"""

from __future__ import annotations

import json
import socket
import time

import h2.config
import h2.connection
import h2.events

CONNECTION_WINDOW = 2**24


class Reader:
    """A connection with prior knowledge, driven by one thread."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.authority = f"{host}:{port}"
        self.socket = socket.create_connection((host, int(port)))
        config = h2.config.H2Configuration(header_encoding="utf-8")
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        self.connection.increment_flow_control_window(CONNECTION_WINDOW)
        #: Stream -> when its pieces came.
        self.arrivals: dict[int, list[float]] = {}
        self.bytes: dict[int, int] = {}
        self.status: dict[int, int] = {}
        self.body: dict[int, bytes] = {}
        self.open: set[int] = set()
        self.flush()

    def ask(self, path: str, body: dict, headers: dict[str, str]) -> int:
        """Sends a request; returns its stream."""
        content = json.dumps(body).encode()
        stream = self.announce(path, len(content), headers)
        self.connection.send_data(stream, content, end_stream=True)
        self.flush()
        return stream

    def announce(self, path: str, length: int, headers: dict[str, str]) -> int:
        """Sends a request's head and none of the body that it promises."""
        stream = self.connection.get_next_available_stream_id()
        head = {":method": "POST", ":scheme": "http", ":authority": self.authority, ":path": path}
        head |= {"content-type": "application/json", "content-length": str(length)}
        self.connection.send_headers(stream, list((head | headers).items()))
        self.arrivals[stream], self.bytes[stream], self.body[stream] = [], 0, b""
        self.open.add(stream)
        self.flush()
        return stream

    def fill_window(self, stream: int) -> None:
        """Sends as much of an announced body as the server has opened its window for."""
        while room := self.connection.local_flow_control_window(stream):
            self.connection.send_data(stream, b" " * min(room, 16_384))
            self.flush()

    def read(self, done: set[int], unread: set[int], within: float) -> None:
        """Reads until all of `done` have ended; gives no window back to those of `unread`."""
        deadline = time.monotonic() + within
        while done & self.open:
            left = deadline - time.monotonic()
            assert left > 0, f"{len(done & self.open)} streams still run after {within} s"
            self.socket.settimeout(left)
            data = self.socket.recv(65536)
            assert data, "the server closed the connection"
            for event in self.connection.receive_data(data):
                self.take(event, unread)
            self.flush()

    def take(self, event: h2.events.Event, unread: set[int]) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.arrivals[event.stream_id].append(time.monotonic())
            self.bytes[event.stream_id] += len(event.data)
            if event.stream_id not in unread:
                self.body[event.stream_id] += event.data
            length = event.flow_controlled_length
            if event.stream_id in unread:
                # The connection's share only.
                self.connection.increment_flow_control_window(length)
            else:
                self.connection.acknowledge_received_data(length, event.stream_id)
        elif isinstance(event, h2.events.ResponseReceived):
            self.status[event.stream_id] = int(dict(event.headers)[":status"])
        elif isinstance(event, h2.events.StreamEnded):
            self.open.discard(event.stream_id)
        elif isinstance(event, h2.events.StreamReset) and event.stream_id not in self.open:
            pass  # after a complete answer it says that the rest of the request is not wanted
        elif isinstance(event, h2.events.StreamReset) and event.stream_id in unread:
            self.open.discard(event.stream_id)  # given up in the end: limits.write_stall
        elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
            raise AssertionError(f"the server broke off: {event}")

    def flush(self) -> None:
        self.socket.sendall(self.connection.data_to_send())

    def gaps(self, streams: list[int]) -> list[float]:
        """The times between pieces of these streams."""
        lists = (self.arrivals[stream] for stream in streams)
        return [later - sooner for times in lists for sooner, later in zip(times, times[1:])]

    def close(self) -> None:
        self.socket.close()
