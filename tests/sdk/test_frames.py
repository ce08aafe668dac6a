"""HTTP/2 frames that no honest client sends: the connection at fault ends, its neighbours do not."""

from __future__ import annotations

import contextlib
import socket
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import pytest
from rig import Reprise, eventually

PATH = "/v1/models"


class Raw:
    """A connection whose frames a test writes itself."""

    def __init__(self, url: str, windows: dict[int, int] | None = None) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.authority = f"{host}:{port}"
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        # Nothing is checked on our side: that is the point.
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                validate_outbound_headers=False, normalize_outbound_headers=False
            )
        )
        self.h2.initiate_connection()
        if windows:
            self.h2.update_settings(windows)
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def ask(self, path: str = PATH, end: bool = True) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(
            stream,
            [
                (":method", "GET" if end else "POST"),
                (":scheme", "http"),
                (":authority", self.authority),
                (":path", path),
            ],
            end_stream=end,
        )
        return stream

    def hear(self, within: float) -> list[h2.events.Event]:
        """What comes within that time; raises when the other side ends the connection."""
        self.socket.settimeout(within)
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return []
        if not data:
            raise ConnectionResetError("closed")
        events = self.h2.receive_data(data)
        with contextlib.suppress(OSError):
            self.flush()
        return events

    def status(self, stream: int) -> int:
        """The status of a stream's answer."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for event in self.hear(1):
                if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
                    return int(dict(event.headers)[b":status"])
                if isinstance(event, h2.events.StreamReset) and event.stream_id == stream:
                    raise ConnectionResetError("reset")
        raise AssertionError("no answer")

    def ends(self, frame: bytes, within: float = 30) -> bool:
        """Whether sending `frame` again and again ends the connection."""
        deadline = time.monotonic() + within
        self.socket.settimeout(0.01)
        while time.monotonic() < deadline:
            try:
                self.socket.sendall(frame * 64)
            except TimeoutError:
                pass
            except OSError:
                return True
            try:
                data = self.socket.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError:
                return True
            if not data:
                return True
            with contextlib.suppress(h2.exceptions.ProtocolError):
                for event in self.h2.receive_data(data):
                    if isinstance(event, h2.events.ConnectionTerminated):
                        return True
        return False


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame as RFC 9113, 4.1 draws it."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def neighbour_is_well(proxy: Reprise) -> None:
    other = Raw(proxy.url)
    stream = other.ask()
    other.flush()
    assert other.status(stream) == 200
    other.socket.close()


def nothing_is_left(proxy: Reprise) -> None:
    def in_flight() -> float:
        for line in proxy.admin.get("/metrics").text.splitlines():
            if line.startswith("reprise_requests_in_flight "):
                return float(line.split()[1])
        raise AssertionError("no such metric")

    eventually(lambda: in_flight() == 0, within=20, what="no request in flight")


def test_rapid_reset(proxy: Reprise) -> None:
    """CVE-2023-44487: streams opened and reset as fast as the wire goes."""
    attacker, honest = Raw(proxy.url), Raw(proxy.url)
    ended = False
    with contextlib.suppress(OSError, h2.exceptions.ProtocolError):
        for _ in range(200):
            for _ in range(50):
                attacker.h2.reset_stream(attacker.ask())
            attacker.flush()
            for event in attacker.hear(0.001):
                ended |= isinstance(event, h2.events.ConnectionTerminated)
            if ended:
                break
    stream = honest.ask()
    honest.flush()
    assert honest.status(stream) == 200
    neighbour_is_well(proxy)
    nothing_is_left(proxy)


@pytest.mark.parametrize(
    ("what", "flood"),
    [
        ("settings", frame(4, 0, 0, bytes([0, 3, 0, 0, 0, 100]))),
        ("ping", frame(6, 0, 0, b"12345678")),
        ("priority", frame(2, 0, 1, bytes([0, 0, 0, 3, 16]))),
        ("window by one", frame(8, 0, 0, bytes([0, 0, 0, 1]))),
        ("unknown", frame(99, 0, 0, b"what?")),
    ],
)
def test_floods_starve_nobody(proxy: Reprise, what: str, flood: bytes) -> None:
    """A second of nothing but these frames; others are served meanwhile and afterwards."""
    attacker = Raw(proxy.url)
    attacker.ends(flood, within=1)
    neighbour_is_well(proxy)
    attacker.socket.close()
    nothing_is_left(proxy)


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("window of zero", frame(8, 0, 0, bytes(4))),
        ("window beyond 2^31", frame(8, 0, 0, bytes([0x7F, 0xFF, 0xFF, 0xFF]))),
        ("settings on a stream", frame(4, 0, 1, b"")),
        ("settings of odd length", frame(4, 0, 0, b"odd")),
        ("ping of odd length", frame(6, 0, 0, b"odd")),
        ("data without a stream", frame(0, 0, 0, b"data")),
        ("data on a stream that is idle", frame(0, 0, 99, b"data")),
        ("continuation out of nowhere", frame(9, 4, 1, b"")),
        ("push from a client", frame(5, 4, 1, bytes([0, 0, 0, 2]))),
        ("reset of a stream that is idle", frame(3, 0, 99, bytes(4))),
        ("headers on an even stream", frame(1, 5, 2, b"\x82\x84\x86\x41\x01a")),
        ("headers that do not unpack", frame(1, 5, 1, b"\xff\xff\xff\xff\xff\xff")),
        ("a frame too long", (1 << 20).to_bytes(3, "big") + bytes([0, 0, 0, 0, 0, 1])),
    ],
)
def test_what_breaks_the_protocol_ends_its_connection_alone(
    proxy: Reprise, what: str, wrong: bytes
) -> None:
    attacker, honest = Raw(proxy.url), Raw(proxy.url)
    attacker.socket.sendall(wrong)
    assert attacker.ends(b"", within=10), what
    stream = honest.ask()
    honest.flush()
    assert honest.status(stream) == 200
    nothing_is_left(proxy)


def test_headers_without_end(proxy: Reprise) -> None:
    """CVE-2024-27316: continuation frames that never say that the headers are over."""
    attacker = Raw(proxy.url)
    attacker.socket.sendall(frame(1, 1, 1, b"\x82\x84\x86\x41\x01a"))
    # A literal header, 250 bytes, never indexed.
    header = b"\x10\x01x\x7f\x7b" + b"y" * 250
    assert attacker.ends(frame(9, 0, 1, header), within=20)
    neighbour_is_well(proxy)
    nothing_is_left(proxy)


def test_small_frames_of_a_body(proxy: Reprise) -> None:
    """A body of thousands of one-byte frames is a body."""
    client = Raw(proxy.url)
    stream = client.ask("/v1/chat/completions", end=False)
    client.flush()
    for _ in range(2000):
        client.socket.sendall(frame(0, 0, stream, b"x"))
    client.socket.sendall(frame(0, 1, stream, b""))
    # The server's own word on a body that is no JSON, which it has read to its end.
    assert client.status(stream) == 400
    neighbour_is_well(proxy)
    nothing_is_left(proxy)


def test_window_exhaustion(proxy: Reprise) -> None:
    """Hundreds of answers asked for and none of them read: their streams wait, others do not, and
    all of it is given back when the connection goes."""
    client = Raw(proxy.url, {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    streams = [client.ask() for _ in range(100)]
    client.flush()
    heads = set()
    deadline = time.monotonic() + 20
    while len(heads) < len(streams) and time.monotonic() < deadline:
        for event in client.hear(0.5):
            if isinstance(event, h2.events.ResponseReceived):
                heads.add(event.stream_id)
            assert not isinstance(event, h2.events.DataReceived)
    assert len(heads) == len(streams)
    neighbour_is_well(proxy)
    client.socket.close()
    nothing_is_left(proxy)


def test_more_streams_than_allowed(proxy: Reprise) -> None:
    """Streams above `limits.h2_streams` are refused, each by itself."""
    client = Raw(proxy.url, {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.h2.remote_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
    client.h2.remote_settings.acknowledge()
    with contextlib.suppress(h2.exceptions.ProtocolError):
        for _ in range(300):
            client.ask()
    client.flush()
    neighbour_is_well(proxy)
    client.socket.close()
    nothing_is_left(proxy)
