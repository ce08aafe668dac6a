"""APIs whose clients are an HTTP library: TGI's own, llama.cpp's own, and one that only its operator
knows."""

import json

import httpx2
import pytest

import dialect


def events(answer: httpx2.Response) -> list[dict]:
    lines = [line for line in answer.text.splitlines() if line.startswith("data:")]
    return [json.loads(line[5:]) for line in lines]


def post(url: str, path: str, body: dict) -> httpx2.Response:
    answer = httpx2.post(f"{url}{path}", json=body, trust_env=False, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.fixture(params=[True, False], ids=["details", "bare"])
def tgi(request, nonce):
    def body(question):
        # The whole text is the question: a partition of its own by a parameter.
        return {"inputs": question, "parameters": {"details": request.param, "stop": [nonce]}}

    def whole(url, question):
        answer = post(url, "/generate", body(question))
        return answer.json()["generated_text"], answer.content

    def stream(url, question):
        answer = post(url, "/generate_stream", body(question))
        return events(answer)[-1]["generated_text"], answer.content

    return request.param, whole, stream


def test_tgi_from_a_stream(journey, tgi):
    _, whole, stream = tgi
    journey.walk(stream, whole)


def test_tgi_from_a_body(journey, tgi):
    details, whole, stream = tgi
    # Tokens that were not recorded are not made up.
    journey.walk(whole, stream if details else None)


@pytest.mark.parametrize("first", ["whole", "stream"])
def test_llamacpp(journey, nonce, first):
    def body(question, stream):
        return {"prompt": question, "n_predict": 400, "stream": stream, "stop": [nonce]}

    def whole(url, question):
        answer = post(url, "/completion", body(question, False))
        return (answer.json()["content"], answer.json()["stop_type"]), answer.content

    def stream(url, question):
        answer = post(url, "/completion", body(question, True))
        parts = events(answer)
        return ("".join(part["content"] for part in parts), parts[-1]["stop_type"]), answer.content

    journey.walk(*((whole, stream) if first == "whole" else (stream, whole)))


DESCRIBED = """
[dialect.my_tgi]
paths = ["/generate"]
stream_paths = ["/generate_stream"]
prompt = "/inputs"
temperature = "/parameters/temperature"
answer = "/generated_text"
piece = "/token/text"
end = "/generated_text"
finish = "/details/finish_reason"
finish_clean = ["eos_token", "stop_sequence"]
finish_length = ["length"]
completion_tokens = "/details/generated_tokens"
error = "/error"

[[upstream]]
name = "tgi"
urls = ["{url}"]
dialect = "my_tgi"
"""


def test_tgi_described_by_its_operator(start, sim, nonce):
    """No line of code knows this API: eleven lines of configuration do."""
    proxy = start("", config=DESCRIBED.format(url=sim.url))
    journey = dialect.Journey(proxy, sim)

    def ask(path):
        def ask(url, question):
            body = {"inputs": question, "parameters": {"details": True, "stop": [nonce]}}
            answer = post(url, path, body)
            told = events(answer)[-1] if "stream" in path else answer.json()
            return told["generated_text"], answer.content

        return ask

    journey.walk(ask("/generate"), None)
    metrics = proxy.admin.get("/metrics").text
    assert 'dialect="my_tgi",outcome="hit_exact"' in metrics

    fresh = dialect.Journey(start("", config=DESCRIBED.format(url=sim.url)), sim)
    fresh.walk(ask("/generate_stream"), None)


def test_a_dialect_that_nobody_described_is_refused_by_name(start, tmp_path):
    config = '[[upstream]]\nname = "a"\nurls = ["http://127.0.0.1:1"]\ndialect = "opena"\n'
    proxy = start("", config=config, ready=False)
    assert proxy.wait() == 64
    assert "unknown dialect `opena`" in proxy.output() and "`openai`" in proxy.output()
