"""Start, stop, restart, and what goes on when a part is missing."""

import json
import re
import shutil
import signal
import socket
import subprocess
import threading

import httpx2
import openai
import pytest

import answers
import contract
import rig
from conftest import Cached, Way
from test_parity import PARAPHRASE, QUESTION

PATH = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-one"}


class Stream(threading.Thread):
    """One streaming client in the background."""

    def __init__(self, way: Way, body: dict) -> None:
        super().__init__()
        self.way, self.body = way, body
        self.begun = threading.Event()
        self.got, self.error = b"", None

    def run(self) -> None:
        try:
            with self.way.raw() as raw:
                with raw.stream("POST", PATH, json=self.body, headers=KEY) as answer:
                    for piece in answer.iter_raw():
                        self.got += piece
                        self.begun.set()
        except httpx2.TransportError as error:
            self.error = error
            self.begun.set()


@pytest.mark.parametrize("way_name", ["http1", "http2", "tls_http2"])
def test_sigterm_lets_running_answers_finish(start, halting, ask, way_name):
    proxy = start(halting.url)
    url = proxy.https_url if "tls" in way_name else proxy.url
    body = ask("A story", stream=True)
    # curl, because python's h2 takes the GOAWAY that every drain begins with for the end.
    option = {"http1": "--http1.1", "http2": "--http2-prior-knowledge", "tls_http2": "--http2"}
    client = subprocess.Popen(
        ["curl", "-sSNk", option[way_name], "--json", "@-", url + PATH],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )
    client.stdin.write(json.dumps(body).encode())
    client.stdin.close()
    first = client.stdout.readline()
    proxy.terminate()
    host, port = proxy.url.removeprefix("http://").split(":")

    def refused() -> bool:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except ConnectionRefusedError:
            return True
        return False

    rig.eventually(refused, what="refusing new connections")
    assert proxy.admin.get("/readyz").status_code == 503
    assert proxy.admin.get("/livez").status_code == 200
    assert client.poll() is None, "the answer was still running all the while"
    halting.go.set()
    got = first + client.stdout.read()
    assert client.wait(20) == 0
    assert len(answers.chunk_objects(got)) == halting.WORDS + 1
    assert proxy.wait() == 0


def test_what_is_answered_while_draining_is_stored(start, halting, ask, tmp_path):
    proxy = start(halting.url, tmp_path / "one")
    body = ask("A story", stream=True)
    stream = Stream(Way("http1", proxy.url), body)
    stream.start()
    assert stream.begun.wait(30)
    proxy.terminate()
    rig.eventually(lambda: proxy.admin.get("/readyz").status_code == 503, what="the drain")
    halting.go.set()
    assert proxy.wait() == 0
    stream.join(30)
    again = start(halting.url, tmp_path / "one")
    answer = Cached(Way("http1", again.url)).lookup(body)
    assert answer.status_code == 200
    assert answer.content == stream.got


def test_a_drain_has_a_deadline(start, sim, ask):
    proxy = start(sim.url, settings={"drain.deadline": "1s"})
    stream = Stream(Way("http1", proxy.url), ask("A story [[stall:2]]", stream=True))
    stream.start()
    assert stream.begun.wait(30)
    proxy.terminate()
    # Its answer would go on for a minute.
    proxy.wait(20)
    stream.join(30)
    assert not stream.got.endswith(b"[DONE]\n\n"), "a cut stream must not look complete"


def test_a_second_signal_means_now(start, sim, ask):
    proxy = start(sim.url, settings={"drain.deadline": "60s"})
    stream = Stream(Way("http1", proxy.url), ask("A story [[stall:2]]", stream=True))
    stream.start()
    assert stream.begun.wait(30)
    proxy.terminate()
    rig.eventually(lambda: proxy.admin.get("/readyz").status_code == 503, what="the drain")
    proxy.terminate()
    # Long before the deadline of the drain.
    proxy.wait(20)
    stream.join(30)


@pytest.mark.parametrize("way_name", ["http1", "http2"])
def test_idle_connections_do_not_hold_up_the_end(start, sim, ask, way_name):
    """Pooled connections of clients that are not looking: they answer no GOAWAY and no PING."""
    proxy = start(sim.url, settings={"drain.deadline": "60s", "limits.header_time": "60s"})
    with Way(way_name, proxy.url).raw() as client:
        client.post(PATH, json=ask("Hello"), headers=KEY)
        proxy.process.send_signal(signal.SIGINT)
        # Long before the drain's deadline and the connection's own end.
        assert proxy.wait(20) == 0


def test_a_restart_keeps_both_tiers(start, sim, ask, tmp_path):
    proxy = start(sim.url, tmp_path / "kept")
    with Way("http1", proxy.url).raw() as raw:
        first = raw.post(PATH, json=ask(QUESTION), headers=KEY)
    Cached(Way("http1", proxy.url)).wait(ask(PARAPHRASE))
    proxy.stop()
    sim.reset()
    again = start(sim.url, tmp_path / "kept")
    cached = Cached(Way("http1", again.url))
    exact, semantic = cached.lookup(ask(QUESTION)), cached.lookup(ask(PARAPHRASE))
    assert exact.content == semantic.content == first.content
    assert contract.verdict(exact.headers).outcome == "hit_exact"
    assert contract.verdict(semantic.headers).outcome == "hit_semantic"
    assert contract.verdict(exact.headers).entry == contract.verdict(first.headers).entry
    assert sim.calls() == 0


def test_a_kill_loses_at_most_what_was_on_its_way(start, sim, ask, tmp_path):
    """kill -9: what was stored is there again, and nothing half-written is served."""
    proxy = start(sim.url, tmp_path / "kept")
    way = Way("http1", proxy.url)
    bodies = [ask(f"Question {index}, please explain") for index in range(50)]
    contents = []
    with way.raw() as raw:
        for body in bodies:
            contents.append(raw.post(PATH, json=body, headers=KEY).content)
    rig.eventually(
        lambda: proxy.admin.get("/api/v1/stats").json()["writes"]["written_total"] >= 50,
        what="the writes",
    )
    proxy.kill()
    again = start(sim.url, tmp_path / "kept")
    cached = Cached(Way("http1", again.url))
    for body, content in zip(bodies, contents):
        answer = cached.lookup(body)
        assert answer.status_code == 200 and answer.content == content


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_is_down_is_named(start, ask, stream):
    port = rig.free_port()
    proxy = start(f"http://127.0.0.1:{port}")
    assert proxy.is_ready(), "readiness does not depend on the upstream"
    way = Way("http1", proxy.url)
    with pytest.raises(openai.InternalServerError) as failure:
        way.client().chat.completions.create(**ask("Hello"), stream=stream)
    assert failure.value.status_code == 502
    assert f"127.0.0.1:{port}" in failure.value.message
    assert re.search("(?i)refused", failure.value.message)
    with way.raw() as raw:
        assert raw.get("/v1/models").status_code == 502
    assert proxy.requests()["error"] == 2


def test_hits_are_served_while_the_upstream_is_down(start, ask, tmp_path):
    upstream = rig.Simulated("--first-token", "0s", "--token-rate", "0")
    try:
        proxy = start(upstream.url)
        way = Way("http1", proxy.url)
        first = way.client().chat.completions.create(**ask(QUESTION))
        Cached(way).wait(ask(PARAPHRASE))
    finally:
        upstream.stop()
    for prompt in (QUESTION, PARAPHRASE):
        assert way.client().chat.completions.create(**ask(prompt)) == first


def check(config: str, tmp_path, *arguments: str) -> subprocess.CompletedProcess:
    file = tmp_path / "bad.toml"
    file.write_text(config)
    command = [str(rig.REPRISE), *arguments, "--config", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=rig.ROOT)


UPSTREAM = '[[upstream]]\nname = "sim"\nurls = ["http://127.0.0.1:1"]\n'


@pytest.mark.parametrize("command", [(), ("serve",), ("check",)])
def test_a_bad_config_exits_64_with_key_and_line(tmp_path, command):
    config = UPSTREAM + "\n[cache]\nttll = \"5m\"\n"
    done = check(config, tmp_path, *command)
    said = done.stdout + done.stderr
    assert done.returncode == 64, said
    assert "ttll" in said and "ttl" in said.replace("ttll", "")
    assert re.search(r"\b6\b", said), f"the line is named: {said}"


def test_all_problems_are_said_at_once(tmp_path):
    config = UPSTREAM + '[cache]\nttl = "soon"\nmax_bytes = "many"\n[embed]\nthreads = "x"\n'
    done = check(config, tmp_path, "check")
    said = done.stdout + done.stderr
    assert done.returncode == 64
    for key in ("cache.ttl", "cache.max_bytes", "embed.threads"):
        assert key in said, said


@pytest.mark.parametrize("config", ["", "[cache\n", "= 1", "\x00"])
def test_no_upstream_or_no_toml_is_refused(tmp_path, config):
    done = check(config, tmp_path)
    assert done.returncode == 64
    assert done.stderr.strip()


def test_a_bad_environment_override_names_its_key(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE__CACHE__TTLL", "5m")
    done = check(UPSTREAM, tmp_path, "check")
    said = (done.stdout + done.stderr).lower()
    assert done.returncode == 64 and "ttll" in said


def test_a_good_config_checks_out(tmp_path):
    assert check(UPSTREAM, tmp_path, "check").returncode == 0
    assert check((rig.ROOT / "config/reprise.toml").read_text() + UPSTREAM, tmp_path, "check") \
        .returncode == 0


def test_a_port_in_use_is_said(start, sim, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [str(rig.REPRISE), "--upstream", sim.url, "--listen", address]
        command += ["--admin", f"127.0.0.1:{rig.free_port()}"]
        environment = {"REPRISE__STORE__PATH": str(tmp_path / "store"), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, cwd=rig.ROOT, env=environment
        )
    assert done.returncode not in (0, 64)
    assert address in done.stdout + done.stderr


def test_a_corrupt_store_is_set_aside_and_serving_goes_on(start, sim, ask, tmp_path):
    folder = tmp_path / "kept"
    proxy = start(sim.url, folder)
    with Way("http1", proxy.url).raw() as raw:
        raw.post(PATH, json=ask(QUESTION), headers=KEY)
    Cached(Way("http1", proxy.url)).wait(ask(PARAPHRASE))
    proxy.stop()
    files = [file for file in (folder / "store").rglob("*") if file.is_file()]
    # Without its key the store would be unreadable for good, which is not this test's question.
    files = [file for file in files if file.name != "tenant.key"]
    for file in files:
        file.write_bytes(b"\xde\xad\xbe\xef" * 64)
    again = start(sim.url, folder)
    with Way("http1", again.url).raw() as raw:
        for _ in "ab":
            assert raw.post(PATH, json=ask(QUESTION), headers=KEY).status_code == 200
    kept = [file for file in folder.rglob("*") if file.is_file()]
    assert sum(file.read_bytes() == b"\xde\xad\xbe\xef" * 64 for file in kept) > 0, "never deleted"


def test_a_missing_model_leaves_a_proxy_with_exact_hits(start, sim, ask, tmp_path):
    proxy = start(sim.url, settings={"embed.model": str(tmp_path / "nothing")})
    way = Way("http1", proxy.url)
    with way.raw() as raw:
        assert raw.post(PATH, json=ask(QUESTION), headers=KEY).status_code == 200
    Cached(way).wait(ask(QUESTION))
    verbose = proxy.admin.get("/readyz?verbose").text
    assert "embed" in verbose and "ok" not in re.search(r".*embed.*", verbose)[0]


def test_a_model_whose_files_tell_of_another_dimension_has_its_own_store(start, sim, ask, tmp_path):
    """The store opens beside the model, by what its files foretell; the model has the last word."""
    model = tmp_path / "all-MiniLM-L6-v2"  # by this name it has a first prior
    shutil.copytree(rig.ROOT / "assets/all-MiniLM-L6-v2", model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"hidden_size": 256}))
    for _ in range(2):
        proxy = start(sim.url, tmp_path / "kept", settings={"embed.model": str(model)})
        cached = Cached(Way("http1", proxy.url))
        with cached.way.raw() as raw:
            raw.post(PATH, json=ask(QUESTION), headers=KEY)
        cached.wait(ask(PARAPHRASE))
        hit = cached.lookup(ask(PARAPHRASE))
        assert contract.verdict(hit.headers).outcome == "hit_semantic"
        assert proxy.admin.get("/readyz").status_code == 200
        proxy.stop()


def test_the_access_record_holds_no_prompt_and_no_credential(start, sim, ask):
    proxy = start(sim.url, settings={"log.format": "json", "log.level": "trace"})
    secret, key = "my very private question", "sk-very-private"
    with Way("http1", proxy.url).raw() as raw:
        raw.post(PATH, json=ask(secret), headers={"authorization": f"Bearer {key}"})
    proxy.stop()
    log = proxy.log.read_text()
    assert secret not in log and key not in log
    assert PATH in log
