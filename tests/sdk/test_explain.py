"""What the proxy says that it would do with a request is what it does, asked over the admin
listener and from the command line."""

import json
import subprocess

import pytest

import rig
from test_parity import PARAPHRASE, QUESTION

PATH = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-one"}


def explained(proxy: rig.Reprise, body: dict, **headers: str) -> dict:
    own = {f"x-client-{name.replace('_', '-')}": value for name, value in headers.items()}
    answer = proxy.admin.post("/api/v1/explain", json=body, headers=own)
    return answer.raise_for_status().json()


def test_an_explanation_comes_true(via, proxy, sim, cached, ask):
    sim.reset()
    bearer = KEY["authorization"]
    body, near = ask(QUESTION), ask(PARAPHRASE)
    before = explained(proxy, body, authorization=bearer)
    assert (before["outcome"], before["detail"], before["nearest"]) == ("miss", "no_neighbour", [])
    with via.raw() as raw:
        first = raw.post(PATH, json=body, headers=KEY)
        assert first.headers["x-reprise-entry"] == before["entry"]
        exact = explained(proxy, body, authorization=bearer)
        assert (exact["outcome"], exact["detail"]) == ("hit", "exact")
        cached.wait(near)
        told = explained(proxy, near, authorization=bearer)
        assert (told["outcome"], told["detail"]) == ("hit", "semantic"), told
        assert told["answer"] == before["entry"]
        assert told["nearest"][0]["guards"] == [] and "question" not in told["nearest"][0]
        assert told["verdict"]["ruling"] == "serve" and told["took_us"]["embed"] > 0
        answer = raw.post(PATH, json=near, headers=KEY)
        assert answer.headers["x-cache"] == "HIT"
        similarity = float(answer.headers["x-reprise-similarity"])
        assert similarity == pytest.approx(told["verdict"]["similarity"], abs=1e-3)
        opposite = QUESTION.replace("do I", "do I not")
        told = explained(proxy, ask(opposite), authorization=bearer)
        assert (told["outcome"], told["nearest"][0]["guards"]) == ("miss", ["negation"]), told
        stranger = explained(proxy, near, authorization="Bearer sk-two")
        assert stranger["detail"] == "no_neighbour" and stranger["exact"] is None
    assert sim.calls() == 1


def test_the_command_line_prints_it(proxy, sim, ask, tmp_path):
    file = tmp_path / "request.json"
    file.write_text(json.dumps(ask(QUESTION)))
    command = [str(rig.REPRISE), "explain", str(file), "--url", proxy.admin_url]
    command += ["--header", "Authorization: Bearer sk-one"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], cwd=rig.ROOT, capture_output=True, text=True)

    told = run()
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("MISS (no_neighbour): nothing is stored"), told.stdout
    assert json.loads(run("--json").stdout)["detail"] == "no_neighbour"
    assert run("--path", "/v1/models").stdout.startswith("BYPASS (not_cacheable)")
    refused = run("--header", "nonsense")
    assert refused.returncode != 0 and "NAME: VALUE" in refused.stderr
