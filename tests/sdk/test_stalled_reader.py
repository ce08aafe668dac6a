"""A client that stops reading slows nobody else down: not on its own connection, not on the
upstream's, by HTTP/1.1 and by HTTP/2 on either side."""

import json
import os
import re
import socket
import statistics
import time

import anyio
import httpx2
import pytest

import h2_reader
import rig
from conftest import Way

PATH = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-one"}
#: How long the reader is stalled; the issue's measure is 60.
SECONDS = float(os.environ.get("REPRISE_SDK_STALL_SECONDS", "8"))
RATE = 50
ENDED = re.compile(r'path="/v1/chat/completions" status=200 .*end="(\w+)"')
OTHERS = 8


def upstream_by(protocol: str, url: str) -> str:
    """A configuration whose upstream is reached by `protocol`."""
    http2 = "true" if protocol == "http2" else "false"
    return f'[[upstream]]\nname = "sim"\nurls = ["{url}"]\nhttp2 = {http2}\n'


async def pace(client: httpx2.AsyncClient, body: dict, gaps: list[float]) -> None:
    """Reads a stream and notes the time between its pieces."""
    async with client.stream("POST", PATH, json=body, headers=KEY) as response:
        assert response.status_code == 200
        last = None
        async for _ in response.aiter_raw():
            now = time.monotonic()
            if last is not None:
                gaps.append(now - last)
            last = now


async def others(client: httpx2.AsyncClient, ask, name: str) -> list[float]:
    """Several different streams side by side; all their gaps."""
    gaps: list[float] = []
    tokens = int(SECONDS * RATE)
    async with anyio.create_task_group() as group:
        for index in range(OTHERS):
            prompt = f"{name} story {index} [[rate:{RATE}]][[tokens:{tokens}]]"
            group.start_soon(pace, client, ask(prompt, stream=True), gaps)
    return gaps


def assert_same_pace(gaps: list[float], alone: list[float]) -> None:
    """The same median, and no gap as long as the reader sleeps: a pause of the machine is shorter."""
    assert statistics.median(gaps) <= 1.5 * statistics.median(alone) + 0.005
    assert max(gaps) <= 0.75 * SECONDS, f"{max(gaps)} against {max(alone)} alone"


@pytest.mark.long
@pytest.mark.timeout(60 + 5 * SECONDS)
@pytest.mark.parametrize("upstream", ["http1", "http2"])
@pytest.mark.anyio
async def test_the_others_keep_their_pace(start, sim, ask, upstream):
    proxy = start(sim.url, config=upstream_by(upstream, sim.url))
    way = Way("http1", proxy.url)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(base_url=way.url, limits=limits, **way.options()) as http:
        alone = await others(http, ask, "alone")
        # Far more than fits into all the buffers between the model and a client that is asleep.
        huge = ask("A book [[tokens:100000]]", stream=True)
        async with http.stream("POST", PATH, json=huge, headers=KEY) as stalled:
            assert stalled.status_code == 200
            sim.reset()
            gaps = await others(http, ask, "beside")
            version = "HTTP/2.0" if upstream == "http2" else "HTTP/1.1"
            assert sim.stats()["versions"] == {version: OTHERS}
    assert_same_pace(gaps, alone)


@pytest.mark.long
@pytest.mark.timeout(60 + 5 * SECONDS)
@pytest.mark.parametrize("upstream", ["http1", "http2"])
def test_other_streams_of_the_same_connection_keep_their_pace(start, sim, ask, upstream):
    proxy = start(sim.url, config=upstream_by(upstream, sim.url))
    reader = h2_reader.Reader(proxy.url)
    tokens = int(SECONDS * RATE)

    def side_by_side(name: str, unread: set[int]) -> list[float]:
        prompts = (f"{name} story {i} [[rate:{RATE}]][[tokens:{tokens}]]" for i in range(OTHERS))
        streams = [reader.ask(PATH, ask(prompt, stream=True), KEY) for prompt in prompts]
        reader.read(set(streams), unread, within=30 + 3 * SECONDS)
        return reader.gaps(streams)

    alone = side_by_side("alone", set())
    huge = reader.ask(PATH, ask("A book [[tokens:100000]]", stream=True), KEY)
    gaps = side_by_side("beside", {huge})
    assert 0 < reader.bytes[huge] <= 65_535, "it stopped at its own window"
    reader.close()
    assert_same_pace(gaps, alone)


@pytest.mark.anyio
async def test_a_fast_follower_is_not_held_back_by_a_stalled_leader(via: Way, sim, ask):
    """Both read the same answer; the leader reads nothing of it."""
    body = ask("A chapter [[tokens:3000]]", stream=True)
    sim.reset()
    async with httpx2.AsyncClient(base_url=via.url, **via.options()) as http:
        async with http.stream("POST", PATH, json=body, headers=KEY) as leader:
            with anyio.fail_after(30):
                follower = await http.post(PATH, json=body, headers=KEY)
            assert follower.content.endswith(b"data: [DONE]\n\n")
            late = b"".join([piece async for piece in leader.aiter_raw()])
    assert late == follower.content
    assert sim.calls() == 1


def test_a_client_that_never_reads_is_cut_off_in_the_end(start, sim, ask):
    """It must not hold its permit and its memory for ever."""
    proxy = start(sim.url, settings={"limits.write_stall": "1s"})
    host, port = proxy.url.removeprefix("http://").split(":")
    body = json.dumps(ask("A book [[tokens:30000]]", stream=True)).encode()
    with socket.socket() as client:
        # A small window, so that the kernel does not swallow the whole book.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        # The access record is written when the body is dropped, and with it what it held.
        record = rig.eventually(lambda: ENDED.search(proxy.output()), within=30, what="its end")
    assert record[1] != "complete"
