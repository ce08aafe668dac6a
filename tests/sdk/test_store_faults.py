"""Proxies killed and a real Milvus stopped, at any moment; scripts/test-milvus starts it. Or a Qdrant."""

import os
import random
import signal
import statistics
import threading
import time
from urllib.parse import urlsplit

import httpx2
import pytest
from relay import Relay
from rig import eventually, needs_server_store, server_store

PATH = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-one"}

pytestmark = needs_server_store


#: How often a writing process is killed; 50 take five minutes.
KILLS = int(os.environ.get("REPRISE_TEST_KILLS", "3"))


@pytest.fixture
def replica(start, sim):
    """Starts one more proxy on the same collection, with memory of its own."""
    settings = server_store()
    return lambda **more: start(sim.url, settings=settings | more)


def post(proxy, body):
    with httpx2.Client(base_url=proxy.url, trust_env=False, timeout=60) as client:
        return client.post(PATH, json=body, headers=KEY)


def asked_until(stop, proxy, bodies):
    """Answers by the number of their question, from three clients at once."""
    answers = {}

    def client(lane):
        for number in range(lane, len(bodies), 3):
            if stop.is_set():
                return
            try:
                answers[number] = post(proxy, bodies[number]).content
            except httpx2.TransportError:
                return

    clients = [threading.Thread(target=client, args=(lane,)) for lane in range(3)]
    for thread in clients:
        thread.start()
    return answers, clients


@pytest.mark.timeout(120 + 20 * KILLS)
def test_processes_killed_at_any_moment_lose_no_written_answer(replica, ask):
    reader, chance = replica(), random.Random()
    for kill in range(KILLS):
        writer, stop = replica(), threading.Event()
        bodies = [ask(f"Question number {number} of life {kill}?") for number in range(600)]
        answers, clients = asked_until(stop, writer, bodies)
        eventually(lambda: answers, 60)
        time.sleep(chance.uniform(0, 2))
        kept = writer.written()
        writer.kill()
        stop.set()
        for thread in clients:
            thread.join()
        found = 0
        for number, answer in answers.items():
            hit = post(reader, bodies[number])
            if hit.headers["x-cache"] == "HIT":
                assert hit.content == answer
                found += 1
        assert found >= kept, f"life {kill}: {kept} were written, {found} are found"


@pytest.mark.skipif(
    not os.environ.get("REPRISE_TEST_STORE_GROUP"), reason="not our own server to stop"
)
def test_a_stopped_server_fails_no_request_and_is_asked_again(replica, ask):
    # The first one waits for so long.
    proxy = replica(**{"store.timeout": "5s"})
    eventually(lambda: proxy.trouble() is None, 180)
    server = int(os.environ["REPRISE_TEST_STORE_GROUP"])
    os.killpg(server, signal.SIGSTOP)
    try:
        bodies = [ask(f"Question number {number} of the silence?") for number in range(10)]
        answers = [post(proxy, body) for body in bodies]
        assert {(a.status_code, a.headers["x-cache"]) for a in answers} == {(200, "MISS")}
        assert proxy.trouble() is not None
        assert post(proxy, bodies[0]).headers["x-cache"] == "HIT", "memory is still asked"
    finally:
        os.killpg(server, signal.SIGCONT)
    eventually(lambda: proxy.trouble() is None, 180)
    # What was answered meanwhile waited and is written now.
    eventually(lambda: proxy.written() == 10, 120)


@pytest.fixture
def relay():
    """In front of the store's server."""
    behind = urlsplit(server_store()["store.url"])
    relay = Relay(behind.hostname, behind.port)
    yield relay
    relay.stop()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", ["slow", "slower than the deadline", "cut"])
def test_a_bad_network_to_the_store_fails_no_request_and_costs_the_deadline_at_most(
    replica, ask, relay, fault
):
    deadline = 1.0
    settings = {"store.url": relay.url, "cache.semantic.lookup_deadline": f"{deadline}s"}
    proxy = replica(**settings)
    eventually(lambda: proxy.trouble() is None, 180)

    def asked(kind, count):
        took = []
        for number in range(count):
            began = time.perf_counter()
            answer = post(proxy, ask(f"Question number {number}, {kind}?"))
            took.append(time.perf_counter() - began)
            assert answer.status_code == 200, answer.text
        median, *slowest = statistics.median(took), *sorted(took)[-3:]
        print(f"{kind}: median {median:.3f} s, the slowest {slowest}")
        return median, slowest

    asked("all well", 40)
    relay.delay = {"slow": 0.02, "slower than the deadline": 1.2}.get(fault, 0.0)
    relay.cuts = 0.1 if fault == "cut" else 0.0
    median, slowest = asked(fault, 60)
    assert (relay.cut if fault == "cut" else relay.delayed) > 0
    # A store that is slower than the deadline is let be: most requests do not wait for it at all. Of
    # the others two may meet a pause of the machine.
    assert median < deadline and slowest[0] < deadline + 1
    relay.delay = relay.cuts = 0.0
    eventually(lambda: proxy.trouble() is None, 180)
    eventually(lambda: proxy.written() >= 100, 120)
