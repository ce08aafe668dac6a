"""Three real Qdrant nodes, every answer on each. By hand, for no package index has a binary:
REPRISE_QDRANT_BIN=/path/to/qdrant scripts/test-sdk test_qdrant.py -s"""

import os
import signal
import subprocess
import time

import httpx2
import pytest
from rig import eventually, free_port, promised

PATH = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-one", "x-reprise-tags": "cluster"}
ONLY = {"cache-control": "only-if-cached"}

pytestmark = pytest.mark.skipif(
    not os.environ.get("REPRISE_QDRANT_BIN"), reason="REPRISE_QDRANT_BIN names no Qdrant server"
)


class Node:
    def __init__(self, folder, first=None):
        folder.mkdir()
        self.folder, self.first = folder, first
        self.http, self.grpc, self.peer = (free_port() for _ in range(3))
        self.url = f"http://127.0.0.1:{self.grpc}"
        self.start()

    def start(self):
        settings = {
            "SERVICE__HOST": "127.0.0.1",
            "SERVICE__HTTP_PORT": str(self.http),
            "SERVICE__GRPC_PORT": str(self.grpc),
            "SERVICE__API_KEY": "of the nodes",
            "CLUSTER__ENABLED": "true",
            "CLUSTER__P2P__PORT": str(self.peer),
            "TELEMETRY_DISABLED": "true",
        }
        command = [os.environ["REPRISE_QDRANT_BIN"], "--uri", f"http://127.0.0.1:{self.peer}"]
        if self.first:
            command += ["--bootstrap", f"http://127.0.0.1:{self.first.peer}"]
        with (self.folder / "out").open("ab") as out:
            environment = os.environ | {f"QDRANT__{k}": v for k, v in settings.items()}
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=out, stderr=out
            )
        eventually(self.is_ready, 60, "a node of Qdrant")

    def is_ready(self):
        try:
            return self.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def get(self, path):
        with httpx2.Client(trust_env=False, headers={"api-key": "of the nodes"}) as client:
            return client.get(f"http://127.0.0.1:{self.http}{path}")

    def peers(self):
        return len(self.get("/cluster").json()["result"]["peers"])

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def nodes(tmp_path):
    found = [Node(tmp_path / "node0")]
    found += [Node(tmp_path / f"node{number}", found[0]) for number in (1, 2)]
    try:
        for node in found:
            eventually(lambda node=node: node.peers() == 3, 60, "the cluster")
        yield found
    finally:
        for node in found:
            node.process.send_signal(signal.SIGCONT)
            node.kill()


@pytest.fixture
def on(start, sim):
    """Starts a proxy, with memory of its own, on a node."""
    settings = {
        "store.kind": "qdrant",
        "store.api_key": "of the nodes",
        "store.prefix": "cluster",
        "store.replicas": "3",
        "store.shards": "2",
        "store.write_consistency": "2",
        "store.tenant_key": "0f" * 32,
        "cache.semantic.lookup_deadline": "500ms",
    }
    return lambda node, more={}: start(sim.url, settings=settings | {"store.url": node.url} | more)


def post(proxy, body, **headers):
    with httpx2.Client(base_url=proxy.url, trust_env=False, timeout=60) as client:
        return client.post(PATH, json=body, headers=KEY | headers)


def timed(proxy, bodies):
    """Outcomes, and the seconds that each took."""
    seen = []
    for body in bodies:
        begun = time.monotonic()
        answer = post(proxy, body)
        assert answer.status_code == 200, answer.text
        seen.append((answer.headers["x-cache"], time.monotonic() - begun))
    return seen


def told(seen):
    took = [round(seconds, 3) for _, seconds in seen]
    return f"the first {took[:5]} s, the slowest {max(took)}"


def hits(proxy, bodies):
    return sum(post(proxy, body, **ONLY).status_code == 200 for body in bodies)


def test_answers_and_purges_are_shared_and_outlive_nodes(nodes, on, ask):
    one, two = on(nodes[0]), on(nodes[1])
    bodies = [ask(f"Question number {number} of the cluster?") for number in range(30)]
    timed(one, bodies)
    eventually(lambda: one.written() == 30, 30)
    eventually(lambda: hits(two, bodies) == 30, 30, "what one stored the other finds")

    # A node that nobody talks to: nobody notices.
    nodes[2].kill()
    later = [ask(f"Question number {number} after the first kill?") for number in range(30)]
    seen = timed(one, later)
    print("a node that is not ours killed:", told(seen))
    eventually(lambda: one.written() == 60, 60)
    eventually(lambda: hits(on(nodes[1]), bodies + later) == 60, 60, "all answers on what is left")

    # The node of one proxy: its first request pays, the store is asked again once it is back.
    nodes[2].start()
    eventually(lambda: one.trouble() is None, 60)
    nodes[0].kill()
    last = [ask(f"Question number {number} after the second kill?") for number in range(30)]
    seen = timed(one, last)
    print("our node killed:", told(seen))
    assert one.trouble() is not None
    assert hits(one, last) == 30, "memory is still asked"
    eventually(lambda: hits(two, bodies) == 30, 30, "the other goes on")
    nodes[0].start()
    back = time.monotonic()
    eventually(lambda: one.trouble() is None, 60)
    print("the store is used again", round(time.monotonic() - back, 2), "s after its node was ready")
    eventually(lambda: one.written() == 90, 60, "what waited")
    eventually(lambda: hits(on(nodes[2]), bodies + later + last) == 90, 60, "all on the node that was away")

    # A node that hangs.
    nodes[0].process.send_signal(signal.SIGSTOP)
    still = [ask(f"Question number {number} of the silence?") for number in range(30)]
    seen = timed(one, still)
    print("our node stopped:", told(seen))
    nodes[0].process.send_signal(signal.SIGCONT)
    eventually(lambda: one.trouble() is None, 60)
    eventually(lambda: one.written() == 120, 60, "what waited")

    gone = one.admin.post("/api/v1/purge", json={"tag": "cluster"}).raise_for_status().json()
    begun = time.monotonic()
    assert gone["entries"] == 120, gone
    promised(lambda: hits(two, bodies[:3]) == 0, 2, "the purge at the other proxy")
    print("purged there after", round(time.monotonic() - begun, 2), "s")
    assert hits(two, bodies + later + last + still) == 0


def test_a_wrong_key_is_said_and_costs_no_request(nodes, on, ask):
    proxy = on(nodes[0], {"store.api_key": "another"})
    seen = timed(proxy, [ask(f"Question number {number} without a key?") for number in range(5)])
    assert {outcome for outcome, _ in seen} == {"MISS"}
    print("wrong key:", proxy.trouble(), told(seen))
    assert proxy.trouble() is not None
