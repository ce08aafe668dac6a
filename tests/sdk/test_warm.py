"""`reprise warm` as it is typed: what it fills is hit by the first client of the proxy that then serves."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from typing import Any

import httpx2

import rig

PATH = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-warm"}


def warm(
    folder: pathlib.Path, upstream: str, lines: list[Any], *more: str
) -> subprocess.CompletedProcess[str]:
    file = folder / "questions.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    own = {k: v for k, v in os.environ.items() if not k.startswith("REPRISE__")}
    (folder / "proxy").mkdir(exist_ok=True)
    own["REPRISE__STORE__PATH"] = str(folder / "proxy" / "store")
    command = [str(rig.REPRISE), "warm", str(file), "--upstream", upstream, "--model", "sim"]
    command += ["-H", "Authorization: Bearer sk-warm", "--rate", "50/s", *more]
    return subprocess.run(
        command, cwd=rig.ROOT, env=own, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL,
    )


def test_the_first_request_after_warming_is_a_hit(sim, start, tmp_path, ask):
    body = ask("How do I close an account?")
    lines = [
        {"prompt": "Where is the nearest branch?", "answer": "In the High Street."},
        {"prompt": "When do you open?"},
        {"custom_id": "3", "method": "POST", "url": PATH, "body": body},
    ]
    told = warm(tmp_path, sim.url, lines)
    assert told.returncode == 0, told.stderr
    assert "2 asked, 1 kept as given, 0 there already, 0 without an answer" in told.stderr
    again = warm(tmp_path, sim.url, lines)
    assert "0 asked, 0 kept as given, 3 there already" in again.stderr, again.stderr

    proxy = start(sim.url, folder=tmp_path / "proxy")
    plain = lambda text: {"model": "sim", "messages": [{"role": "user", "content": text}]}  # noqa: E731
    with httpx2.Client(base_url=proxy.url, trust_env=False, timeout=60) as client:
        for asked in [plain("Where is the nearest branch?"), plain("When do you open?"), body]:
            answer = client.post(PATH, json=asked, headers=KEY)
            assert answer.headers["x-cache"] == "HIT", answer.headers
        answer = client.post(PATH, json=plain("Where is the nearest branch?"), headers=KEY)
        assert answer.json()["choices"][0]["message"]["content"] == "In the High Street."

    # The store is of the process that serves.
    busy = warm(tmp_path, sim.url, lines)
    assert busy.returncode == 69 and "stop the one that serves it" in busy.stderr, busy.stderr


def test_wrong_lines_are_told_with_their_numbers(sim, tmp_path):
    told = warm(tmp_path, sim.url, [{"prompt": "a"}, "{", {"messages": []}])
    assert told.returncode == 69
    assert "line 2:" in told.stderr and "line 3: unknown field `messages`" in told.stderr, told.stderr
    missing = warm(tmp_path, sim.url, [], "--header", "nonsense")
    assert "expected NAME: VALUE" in missing.stderr
