"""What the clients of the whole run said, and what every proxy told others than them: its log, its
metrics, its admin API, its traces, its refusals. `conftest.nothing_leaks` holds the two together.

Heard are the clients built on httpx and httpx2, which are almost all of them.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2

#: A credential that is shorter is a word that logs may hold.
SHORTEST = 6
#: A prompt is known by its beginning and its end; only texts of several words are looked for.
FRAGMENT = 20
CREDENTIALS = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie")

credentials: set[str] = set()
fragments: set[str] = set()
#: Where something was told, and what: pages and refusals; logs are files.
pages: set[tuple[str, str]] = set()
logs: list[pathlib.Path] = []


def texts(value: Any) -> Iterator[str]:
    """All strings inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


def heard(request: Any) -> None:
    """Notes the credentials and the prompts of a request."""
    for name in CREDENTIALS:
        value = request.headers.get(name, "")
        value = value.removeprefix("Bearer ").strip()
        if len(value) >= SHORTEST:
            credentials.add(value)
    with contextlib.suppress(Exception):  # a body that is a stream, or no JSON
        if len(request.content) < 1 << 20:
            for text in texts(json.loads(request.content)):
                if len(text) >= FRAGMENT and text.count(" ") >= 3:
                    fragments.update((text[:FRAGMENT], text[-FRAGMENT:]))


def told(response: Any) -> None:
    """Notes a refusal's body. One without `x-cache` is ours, any other the model server's."""
    if response.status_code >= 400 and "x-cache" not in response.headers:
        pages.add((f"{response.status_code} from {response.url}", response.text))


def listen() -> None:
    """Has every client of the run overheard."""
    for library in (httpx, httpx2):
        overhear(library)


def overhear(library: Any) -> None:
    send, asend = library.Client.send, library.AsyncClient.send
    read, aread = library.Response.read, library.Response.aread

    def noting_send(self: Any, request: Any, **options: Any) -> Any:
        heard(request)
        return send(self, request, **options)

    async def noting_asend(self: Any, request: Any, **options: Any) -> Any:
        heard(request)
        return await asend(self, request, **options)

    def noting_read(self: Any) -> bytes:
        body = read(self)
        told(self)
        return body

    async def noting_aread(self: Any) -> bytes:
        body = await aread(self)
        told(self)
        return body

    library.Client.send, library.AsyncClient.send = noting_send, noting_asend
    library.Response.read, library.Response.aread = noting_read, noting_aread


def look(admin: Any, name: str) -> None:
    """Notes what a proxy tells its operators, while it still can."""
    for page in ("/metrics", "/api/v1/stats", "/readyz?verbose"):
        with contextlib.suppress(httpx2.TransportError):
            pages.add((f"{page} of {name}", admin.get(page, timeout=5).text))
    with contextlib.suppress(httpx2.TransportError), admin.stream(
        "GET", "/api/v1/events", timeout=5
    ) as events:
        line = next(line for line in events.iter_lines() if line.startswith("data:"))
        pages.add((f"events of {name}", line))


def leaks(traces: str) -> list[str]:
    """Where a credential or a piece of a prompt stands that should not be there."""
    everything = [*pages, ("traces", traces)]
    everything += [(str(log), log.read_text(errors="replace")) for log in logs if log.exists()]
    found = []
    for where, text in everything:
        found += [f"{secret!r} in {where}" for secret in credentials if secret in text]
        starts = range(len(text) - FRAGMENT + 1)
        found += [f"{text[at:at + 60]!r} in {where}" for at in starts if text[at:at + FRAGMENT] in fragments]
    return found
