"""Nobody reads a client's secrets in what Reprise says of itself.

`conftest.nothing_leaks` looks for everything that any client of the whole run said; here are the places
where a secret could hide that no other test sends one to.
"""

from __future__ import annotations

import json
import secrets

import httpx2
import pytest

import rig

PATH = "/v1/chat/completions"


@pytest.fixture
def secret() -> str:
    """What a client would mind to see elsewhere."""
    return f"swordfish-{secrets.token_hex(8)}"


def wrong_requests(secret: str) -> list[dict]:
    """Requests that are refused or fail, each with the secret wherever a client can put one."""
    chat = {"model": "sim", "messages": [{"role": "user", "content": f"my password is {secret}"}]}
    big = {"model": "sim", "messages": [{"role": "user", "content": secret * 2_000_000}]}
    return [
        {"json": chat, "headers": {"cache-control": "only-if-cached"}},
        {"json": chat, "headers": {"x-reprise-mode": secret}},
        {"json": chat, "headers": {"x-reprise-ttl": secret}},
        {"json": chat, "headers": {"connection": "close", "te": secret}},
        {"content": f'{{"model": "sim", "messages": "{secret}', "headers": {}},
        {"json": big, "headers": {}},
        {"json": chat, "headers": {}, "method": "TRACE"},
        {"json": chat, "headers": {}, "params": {"key": secret}},
    ]


def test_refusals_metrics_and_the_admin_api_keep_secrets(sim, start, secret):
    proxy = start(sim.url)
    credential = f"Bearer sk-{secret}"
    kinds = set()
    with httpx2.Client(base_url=proxy.url, trust_env=False, timeout=60) as client:
        for wrong in wrong_requests(secret):
            headers = {"authorization": credential, **wrong.pop("headers")}
            method = wrong.pop("method", "POST")
            answer = client.request(method, PATH, headers=headers, **wrong)
            ours = "x-cache" not in answer.headers or answer.status_code >= 400
            if ours and answer.status_code >= 400:
                kinds.add(answer.status_code)
                assert secret not in answer.text, (answer.status_code, answer.text)
            assert secret not in repr(answer.headers), answer.headers
        kept = {"model": "sim", "messages": [{"role": "user", "content": f"keep {secret} please"}]}
        entry = client.post(PATH, json=kept, headers={"authorization": credential})
    assert {400, 504} <= kinds, kinds
    pages = ["/metrics", "/api/v1/stats", "/readyz?verbose", "/"]
    pages.append(f"/api/v1/entries/{entry.headers['x-reprise-entry']}")
    for page in pages:
        answer = proxy.admin.get(page)
        assert answer.status_code == 200 and secret not in answer.text, page
    with proxy.admin.stream("GET", "/api/v1/events") as events:
        line = next(line for line in events.iter_lines() if line.startswith("data:"))
    assert json.loads(line[5:])["requests"] and secret not in line
    explained = proxy.admin.post("/api/v1/explain", json=kept, headers={"x-client-authorization": credential})
    assert explained.status_code == 200 and secret not in explained.text
    proxy.stop()
    assert secret not in proxy.log.read_text(errors="replace")


def test_a_dead_model_servers_error_keeps_secrets(start, secret):
    proxy = start(f"http://127.0.0.1:{rig.free_port()}")
    body = {"model": "sim", "messages": [{"role": "user", "content": secret}]}
    headers = {"authorization": f"Bearer sk-{secret}"}
    for query in ["", f"?key={secret}"]:
        answer = httpx2.post(f"{proxy.url}{PATH}{query}", json=body, headers=headers, trust_env=False)
        assert answer.status_code == 502 and secret not in answer.text, answer.text
    proxy.stop()
    assert secret not in proxy.log.read_text()


def test_writes_to_the_admin_api_are_audited(sim, start, secret):
    proxy = start(sim.url, settings={"admin.token": secret, "log.format": "json"})
    refused = proxy.admin.post("/api/v1/purge", json={"all": True})
    assert refused.status_code == 401 and secret not in refused.text
    proof = {"authorization": f"Bearer {secret}"}
    proxy.admin.post("/api/v1/purge", json={"model": "m"}, headers=proof).raise_for_status()
    proxy.stop()
    lines = [json.loads(line) for line in proxy.log.read_text().splitlines() if line.startswith("{")]
    audited = [line for line in lines if line["target"] == "audit"]
    assert [(one["action"], one["removed"]) for one in audited] == [("purge", 0)], audited
    assert all("127.0.0.1" in one["peer"] for one in audited)
    assert secret not in proxy.log.read_text()


def test_the_access_log_is_json_with_closed_reasons(sim, start, ask):
    proxy = start(sim.url, settings={"log.format": "json"})
    with httpx2.Client(base_url=proxy.url, trust_env=False, timeout=60) as client:
        for headers in [{}, {}, {"cache-control": "no-store"}]:
            client.post(PATH, json=ask("logged"), headers={"authorization": "Bearer sk-log", **headers})
    rig.eventually(lambda: sum(proxy.requests().values()) == 3, what="three records")
    proxy.stop()
    lines = [json.loads(line) for line in proxy.log.read_text().splitlines() if line.startswith("{")]
    access = [line for line in lines if line["target"] == "access"]
    assert [line["outcome"] for line in access] == ["miss", "hit_exact", "bypass"]
    assert access[2]["reason"] == "no_store"
    assert "reason" not in access[1] and access[0]["reason"]
    for line in access:
        assert line["status"] == 200 and line["total_ms"] > 0 and line["tenant"]
        assert "prompt" not in line
