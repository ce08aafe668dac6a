"""Fixtures: one simulated server and one proxy for the session, more for who asks."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
import resource
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

import collector
import contract
import dialect
import ledger
import rig

#: Set to run what needs only the simulated server, before there is a proxy to test.
DIRECT_ONLY = os.environ.get("REPRISE_SDK_DIRECT_ONLY") == "1"
WAYS = ("http1", "http2", "tls_http1", "tls_http2")


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to reach a server: scheme, protocol version, base address."""

    name: str
    url: str

    def options(self) -> dict[str, Any]:
        """For httpx2: HTTP/2 in clear has to be prior knowledge, over TLS it is ALPN's choice."""
        http2 = self.name.endswith("http2")
        return {
            "http1": self.name != "http2", "http2": http2, "verify": False, "trust_env": False,
            "timeout": 60.0,
        }

    def raw(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, **self.options())

    def client(self, key: str = "sk-one") -> openai.OpenAI:
        """The official client. It must not retry: a second attempt would hide a failure."""
        http = httpx2.Client(**self.options())
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=key, max_retries=0, http_client=http
        )

    def async_client(self, key: str = "sk-one") -> openai.AsyncOpenAI:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        http = httpx2.AsyncClient(**self.options(), limits=limits)
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key=key, max_retries=0, http_client=http
        )


def pytest_configure(config: pytest.Config) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        # A thousand streams are two thousand sockets in the proxy, which inherits the limit.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DIRECT_ONLY:
        skip = pytest.mark.skip(reason="REPRISE_SDK_DIRECT_ONLY=1")
        for item in items:
            if item.get_closest_marker("direct") is None:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def nothing_leaks() -> Iterator[None]:
    """After the whole run: no log, page, trace or refusal of any proxy holds a credential or a prompt
    of any client."""
    ledger.listen()
    received = collector.Http()
    rig.COLLECTOR = received.url
    yield
    received.stop()
    spans = [span for one in collector.ALL for span in one.spans]
    found = ledger.leaks(json.dumps([dataclasses.asdict(span) for span in spans], default=str))
    assert not found, found[:20]
    print(
        f"nothing leaked: {len(ledger.credentials)} credentials and {len(ledger.fragments)} pieces of prompts in "
        f"{len(ledger.logs)} logs, {len(ledger.pages)} pages and {len(spans)} spans"
    )


@pytest.fixture(scope="session")
def sim() -> Iterator[rig.Simulated]:
    """A fast model server: what a test wants slow it asks for with a marker."""
    server = rig.Simulated("--first-token", "5ms", "--token-rate", "0", "--tokens", "24")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def proxy(sim: rig.Simulated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[rig.Reprise]:
    """The proxy in front of it, with the default configuration, which sends no traces."""
    untraced = {"telemetry.otlp_endpoint": ""}
    proxy = rig.Reprise(sim.url, tmp_path_factory.mktemp("reprise"), untraced)
    yield proxy
    proxy.stop()


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Callable[..., rig.Reprise]]:
    """Starts a proxy of the test's own; what the test leaves running is stopped."""
    started: list[rig.Reprise] = []
    numbers = itertools.count()

    def start(upstream: str, folder: pathlib.Path | None = None, **options: Any) -> rig.Reprise:
        folder = folder or tmp_path / f"reprise-{next(numbers)}"
        folder.mkdir(exist_ok=True)
        proxy = rig.Reprise(upstream, folder, **options)
        started.append(proxy)
        return proxy

    yield start
    for proxy in started:
        proxy.kill()


@pytest.fixture
def halting() -> Iterator[rig.Halting]:
    """A model server that halts inside its answers until it is told to go on."""
    server = rig.Halting()
    yield server
    server.stop()


@pytest.fixture
def direct(sim: rig.Simulated) -> Way:
    return Way("http1", sim.url)


@pytest.fixture
def via(proxy: rig.Reprise) -> Way:
    return Way("http1", proxy.url)


@pytest.fixture(params=WAYS)
def each_way(request: pytest.FixtureRequest, proxy: rig.Reprise) -> Way:
    """The proxy by every protocol that it speaks."""
    tls = request.param.startswith("tls")
    return Way(request.param, proxy.https_url if tls else proxy.url)


@pytest.fixture
def nonce() -> str:
    """Something no other test says: in the system prompt it makes a partition of its own, so tests
    that share a proxy cannot meet each other's entries."""
    return uuid.uuid4().hex


Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(nonce: str) -> Ask:
    """Builds a chat request in a partition of this test's own."""

    def ask(prompt: Any, system: str = "", **fields: Any) -> dict[str, Any]:
        messages = [
            {"role": "system", "content": f"You are a helpful bank clerk. {nonce} {system}"},
            {"role": "user", "content": prompt},
        ]
        return {"model": "sim", "messages": messages, **fields}

    return ask


@dataclasses.dataclass(frozen=True)
class Cached:
    """Looks into the cache without disturbing it."""

    way: Way
    key: str = "sk-one"

    def lookup(self, body: dict[str, Any], key: str = "") -> httpx2.Response:
        """Asks with only-if-cached: never reaches the upstream."""
        headers = {"authorization": f"Bearer {key or self.key}", "cache-control": "only-if-cached"}
        with self.way.raw() as raw:
            return raw.post("/v1/chat/completions", json=body, headers=headers)

    def wait(self, body: dict[str, Any], key: str = "") -> contract.Verdict:
        """Waits until the answer to `body` is stored: the store is written behind."""

        def stored() -> contract.Verdict | None:
            response = self.lookup(body, key)
            return contract.verdict(response.headers) if response.status_code == 200 else None

        return rig.eventually(stored, what="storing")


@pytest.fixture
def cached(via: Way) -> Cached:
    return Cached(via)


@pytest.fixture
def journey(proxy: rig.Reprise, sim: rig.Simulated) -> dialect.Journey:
    return dialect.Journey(proxy, sim)
