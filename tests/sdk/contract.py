"""The names that users hold on to: response headers, and the witness in every simulated answer."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import blake3
import http_sfv

#: Fields that cannot change an answer, in the simulated server's own list.
SILENT = {
    "metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "stream",
    "stream_options", "user",
}
STAGES = {
    "read", "key", "exact", "embed", "search", "verdict", "queue", "connect", "first", "total",
}
STAMP = re.compile(r"\[sim:([0-9a-f]{16})\]")


def stamp(body: dict[str, Any], credential: str) -> str:
    """The hash that the simulated server puts into its answer to `body`; `credential` is the raw
    value of Authorization (or x-api-key)."""
    said = {name: value for name, value in body.items() if name not in SILENT}
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return blake3.blake3(f"{canonical}\n{credential}".encode()).hexdigest()[:16]


def stamps(text: str) -> list[str]:
    """All stamps in a text."""
    return STAMP.findall(text)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the response headers say about where an answer came from."""

    #: hit_exact, hit_semantic, collapsed, miss, bypass, request, stale
    outcome: str
    params: dict[str, Any]
    x_cache: str
    age: int | None
    entry: str | None
    similarity: float | None

    @property
    def detail(self) -> str | None:
        value = self.params.get("detail")
        return None if value is None else str(value)


def verdict(headers: Any) -> Verdict:
    """Reads the headers of the contract strictly: RFC 9211, RFC 9111 section 5.1, our own."""
    values = headers.get_list("cache-status") if hasattr(headers, "get_list") else None
    value = ", ".join(values) if values else headers["cache-status"]
    caches = http_sfv.List()
    caches.parse(value.encode("ascii"))
    ours = [item for item in caches if str(item.value) == "reprise"]
    assert len(ours) == 1, f"Cache-Status names reprise {len(ours)} times: {value}"
    params = {name: scalar(param) for name, param in ours[0].params.items()}
    assert ("hit" in params) != ("fwd" in params), f"either hit or fwd: {value}"
    if "hit" in params:
        assert params["hit"] is True, value
        outcome = f"hit_{params.get('detail')}"
        if isinstance(params.get("ttl"), int) and params["ttl"] < 0:
            outcome = "hit_stale"
    else:
        assert params["fwd"] in {"miss", "bypass", "request", "stale"}, value
        outcome = "collapsed" if params.get("collapsed") else params["fwd"]
    age = headers.get("age")
    similarity = headers.get("x-reprise-similarity")
    return Verdict(
        outcome=outcome,
        params=params,
        x_cache=headers["x-cache"],
        age=None if age is None else int(age),
        entry=headers.get("x-reprise-entry"),
        similarity=None if similarity is None else float(similarity),
    )


def scalar(value: Any) -> Any:
    """A structured field's bare item as Python's own type."""
    return value if isinstance(value, (bool, int, float)) else str(value)


def server_timing(headers: Any) -> dict[str, float]:
    """Stage -> milliseconds; every stage must be one of the contract's, each at most once."""
    stages: dict[str, float] = {}
    for part in headers["server-timing"].split(","):
        found = re.fullmatch(r"\s*([a-z]+)\s*;\s*dur\s*=\s*(\d+(?:\.\d+)?)\s*", part)
        assert found, f"not a Server-Timing metric with a duration: {part!r}"
        name, milliseconds = found[1], float(found[2])
        assert name in STAGES, f"{name} is not a stage of the contract"
        assert name not in stages, f"{name} twice"
        stages[name] = milliseconds
    return stages
