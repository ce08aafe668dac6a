"""Several replicas: a slow one, a dead one that returns, and caches of prefixes. Each test prints what
it measured; the bounds are wide enough for a busy machine."""

from __future__ import annotations

import collections
import http.server
import json
import random
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent import futures

import httpx2
import pytest
from rig import Reprise, at_best, eventually

PATH = "/v1/chat/completions"


class Replica:
    """A model server of a few lines: a delay, a count, and a cache of the beginnings it has seen."""

    def __init__(self, delay: float = 0.0, prefixes: int = 0, port: int = 0) -> None:
        self.delay, self.prefixes = delay, prefixes
        self.asked = self.found = 0
        self.known: collections.OrderedDict[str, None] = collections.OrderedDict()
        self.lock = threading.Lock()
        replica = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                replica.see(body["messages"][0]["content"])
                time.sleep(replica.delay)
                choice = {"index": 0, "finish_reason": "stop"}
                choice["message"] = {"role": "assistant", "content": "yes"}
                said = json.dumps({"choices": [choice]}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def get_request(self):
                stream, address = super().get_request()
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                replica.open.append(stream)
                return stream, address

        self.open: list[socket.socket] = []
        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def see(self, prefix: str) -> None:
        with self.lock:
            self.asked += 1
            self.found += prefix in self.known
            self.known[prefix] = None
            self.known.move_to_end(prefix)
            while len(self.known) > self.prefixes:
                self.known.popitem(last=False)

    def die(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        for stream in self.open:
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def pool(start, replicas: list[Replica], more: str = "") -> Reprise:
    urls = json.dumps([replica.url for replica in replicas])
    config = f'store.kind = "off"\ncache.enabled = true\n[[upstream]]\nname = "pool"\nurls = {urls}\n'
    return start("", config=config + more)


def ask(client: httpx2.Client, url: str, text: str, system: str = "be kind") -> float:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    begun = time.monotonic()
    answer = client.post(url + PATH, json={"model": "m", "messages": messages})
    assert answer.status_code == 200, answer.text
    return time.monotonic() - begun


def many(url: str, count: int, clients: int = 8) -> list[float]:
    """The latencies of that many different questions, by that many clients at once."""
    stamp = time.monotonic_ns()

    def run(number: int) -> list[float]:
        with httpx2.Client(trust_env=False, timeout=30) as client:
            return [ask(client, url, f"{stamp} {number} {n}") for n in range(count // clients)]

    with futures.ThreadPoolExecutor(clients) as executor:
        return [one for part in executor.map(run, range(clients)) for one in part]


def p99(latencies: list[float]) -> float:
    return statistics.quantiles(latencies, n=100)[98]


@pytest.mark.timeout(300)
def test_a_replica_ten_times_slower_is_avoided(start) -> None:
    fast, slow = Replica(0.03), Replica(0.30)
    alone = pool(start, [fast])
    many(alone.url, 80)

    def avoided(_: int) -> Reprise:
        # One that has not seen the fast one look slow while the machine stood still.
        both = pool(start, [fast, slow])
        many(both.url, 80)
        asked = slow.asked
        single: list[float] = []
        double: list[float] = []
        # In turns, so that both see the same moods of the machine.
        for _ in range(4):
            single += many(alone.url, 400)
            double += many(both.url, 400)
        share = (slow.asked - asked) / len(double)
        print(f"\np99 alone {p99(single) * 1e3:.1f} ms, with a slow twin {p99(double) * 1e3:.1f} ms, "
              f"which got {share:.2%}")
        # What decides about the 99th percentile; latencies themselves are the machine's too.
        assert share < 0.009, share
        return both

    both = at_best(avoided)
    hedged = pool(start, [fast, slow], 'hedge = "80ms"\n')
    many(hedged.url, 80)
    print(f"\np99 with a slow twin and a hedge at 80 ms: {p99(many(hedged.url, 800)) * 1e3:.1f} ms")
    slow.delay = fast.delay
    # Within ten seconds on an even clock (src/upstream/balance/tests.rs). Here a pause of the machine can
    # make a probe look slow, which costs another eight seconds: some of them, far from never.
    begun, share = time.monotonic(), 0.0
    while share <= 0.2:
        assert time.monotonic() - begun < 60, share
        asked = slow.asked
        again = many(both.url, 400)
        share = (slow.asked - asked) / len(again)
    print(f"{time.monotonic() - begun:.0f} s after it recovered it gets {share:.0%}")


@pytest.mark.timeout(120)
def test_a_dead_replica_is_ejected_and_returns(start) -> None:
    steady, mortal = Replica(0.005), Replica(0.005)
    proxy = pool(start, [steady, mortal])
    wrong: list[object] = []
    answered = [0] * 8
    stop = threading.Event()

    def state() -> str:
        stats = proxy.admin.get("/api/v1/stats").json()
        replicas = next(one for one in stats["upstreams"] if one["name"] == "pool")["replicas"]
        return next(one for one in replicas if one["url"].startswith(mortal.url))["state"]

    def run(number: int) -> None:
        turn = 0
        with httpx2.Client(trust_env=False, timeout=30) as client:
            while not stop.is_set():
                turn += 1
                try:
                    ask(client, proxy.url, f"{number} {turn}")
                    answered[number] += 1
                except (AssertionError, httpx2.HTTPError) as error:
                    wrong.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: mortal.asked > 20, what="both are asked")
    mortal.die()
    begun, before = time.monotonic(), sum(answered)
    eventually(lambda: state() != "healthy", what="the ejection")
    ejected, meanwhile = time.monotonic() - begun, sum(answered) - before
    time.sleep(3)
    back = Replica(0.005, port=mortal.port)
    begun = time.monotonic()
    eventually(lambda: back.asked > 5, what="the return")
    returned = time.monotonic() - begun
    stop.set()
    for thread in threads:
        thread.join()
    print(f"\nejected after {ejected:.2f} s and {meanwhile} answers of the other one, asked again "
          f"{returned:.2f} s after its return, {len(wrong)} failed")
    # By answers, for a machine that stands still gives none: those of far less than a second and a half.
    assert meanwhile < 500
    assert not wrong


#: Questions that each of eight clients asks: the first of each beginning is found nowhere.
TURNS = 200


def round_robin(replicas: int, remembered: int) -> float:
    """What turns would give: the same conversations, asked of one replica after the other."""
    caches: list[list[int]] = [[] for _ in range(replicas)]
    orders = [random.Random(number) for number in range(8)]
    found = 0
    for turn in range(8 * TURNS):
        cache, wanted = caches[turn % replicas], orders[turn % 8].randrange(40)
        found += wanted in cache
        cache[:] = [one for one in cache if one != wanted][1 - remembered:] + [wanted]
    return found / (8 * TURNS)


@pytest.mark.timeout(180)
def test_prefixes_stay_with_their_replica(start) -> None:
    """Forty conversations' beginnings, four replicas that remember ten each."""
    # A replica that the machine lets stand still looks slow, and its conversations move.
    at_best(lambda _: prefixes_stay(start))


def prefixes_stay(start) -> None:
    rates = {"round robin": round_robin(replicas=4, remembered=10)}
    print(f"\nround robin: prefix hit rate {rates['round robin']:.0%}")
    for rule in ["prefix", "latency"]:
        replicas = [Replica(0.01, prefixes=10) for _ in range(4)]
        proxy = pool(start, replicas, f'balance = "{rule}"\n')

        def run(number: int) -> None:
            with httpx2.Client(trust_env=False, timeout=30) as client:
                order = random.Random(number)
                for turn in range(TURNS):
                    # Longer than what decides, so that the question behind it does not.
                    system = f"conversation {order.randrange(40)}. " * 80
                    ask(client, proxy.url, f"{number} {turn}", system)

        with futures.ThreadPoolExecutor(8) as executor:
            list(executor.map(run, range(8)))
        asked = [replica.asked for replica in replicas]
        rates[rule] = sum(replica.found for replica in replicas) / sum(asked)
        print(f"\n{rule}: prefix hit rate {rates[rule]:.0%}, asked {asked}")
    assert rates["prefix"] >= 3 * rates["round robin"]
    assert rates["prefix"] > 2 * rates["latency"]

