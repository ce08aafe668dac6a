"""Amazon Bedrock's official client, boto3: Converse, and ConverseStream in AWS' binary event stream,
whose checksums botocore verifies."""

import json

import boto3
import botocore
import botocore.config
import botocore.exceptions
import pytest

import dialect
import rig

TOOL = {"toolSpec": {"name": "get_weather", "inputSchema": {"json": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
}}}}


KEY = "bedrock-api-key-one"


def client(url: str, **more):
    """With an API key of Bedrock's, which botocore sends over TLS only: in clear it is added here."""
    config = botocore.config.Config(
        retries={"total_max_attempts": 1}, proxies={}, signature_version=botocore.UNSIGNED, **more
    )
    made = boto3.client("bedrock-runtime", endpoint_url=url, region_name="us-east-1", config=config)

    def authorize(request, **_):
        request.headers["Authorization"] = f"Bearer {KEY}"

    made.meta.events.register("before-sign.bedrock-runtime", authorize)
    return made


def fields(nonce: str, question: str, kind: str) -> dict:
    asked = {
        "modelId": "amazon.nova-lite-v1:0",
        "system": [{"text": f"Be brief. {nonce}"}],
        "messages": [
            {"role": "user", "content": [{"text": "Hello"}]},
            {"role": "assistant", "content": [{"text": "Hello!"}]},
            {"role": "user", "content": [{"text": question}]},
        ],
        "inferenceConfig": {"maxTokens": 500, "temperature": 0.5},
    }
    if kind == "tools":
        asked["toolConfig"] = {"tools": [TOOL], "toolChoice": {"any": {}}}
    return asked


def together(events: list[dict]) -> dict:
    """The answer that a stream's events make."""
    block, stop, meta = {}, None, None
    for event in events:
        [(kind, said)] = event.items()
        if kind == "contentBlockStart":
            block = {"toolUse": said["start"]["toolUse"] | {"input": ""}}
        elif kind == "contentBlockDelta" and "text" in said["delta"]:
            block["text"] = block.get("text", "") + said["delta"]["text"]
        elif kind == "contentBlockDelta":
            block["toolUse"]["input"] += said["delta"]["toolUse"]["input"]
        elif kind == "messageStop":
            stop = said["stopReason"]
        elif kind == "metadata":
            meta = said["usage"]
    if "toolUse" in block:
        block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    return {"content": [block], "stop": stop, "usage": meta}


@pytest.fixture(params=["text", "tools"])
def asks(request, nonce):
    def whole(url, question):
        answer = client(url).converse(**fields(nonce, question, request.param))
        said = {name: answer[name] for name in ("output", "stopReason", "usage", "metrics")}
        content = answer["output"]["message"]["content"]
        return {"content": content, "stop": answer["stopReason"], "usage": answer["usage"]}, said

    def stream(url, question):
        answer = client(url).converse_stream(**fields(nonce, question, request.param))
        events = list(answer["stream"])
        assert "messageStart" in events[0] and "metadata" in events[-1]
        return together(events), events

    return whole, stream


@pytest.mark.parametrize("first", ["whole", "stream"])
def test_misses_hits_paraphrases_and_both_shapes(journey, asks, first):
    whole, stream = asks
    journey.walk(*((whole, stream) if first == "whole" else (stream, whole)))


def test_a_tools_result_is_repeated_exactly_only(journey, nonce):
    def ask(url, question):
        asked = fields(nonce, "What is the weather in Oslo?", "tools")
        call = {"toolUseId": "t1", "name": "get_weather", "input": {"city": "Oslo"}}
        result = {"toolUseId": "t1", "content": [{"text": question}]}
        asked["messages"] += [
            {"role": "assistant", "content": [{"toolUse": call}]},
            {"role": "user", "content": [{"toolResult": result}]},
        ]
        answer = client(url).converse(**asked)
        return answer["output"], answer["output"]

    journey.missed(ask, dialect.QUESTION)
    journey.hit(ask, dialect.QUESTION)
    journey.missed(ask, dialect.PARAPHRASE)


def test_what_was_cut_off_is_passed_on_and_not_kept(journey, nonce):
    def ask(url, question):
        asked = fields(nonce, question, "text")
        asked["inferenceConfig"]["maxTokens"] = 3
        answer = client(url).converse(**asked)
        return answer["stopReason"]

    for _ in range(2):
        calls = journey.total()
        assert ask(journey.proxy.url, dialect.QUESTION) == "max_tokens"
        assert journey.total() == calls + 1


def test_a_stream_that_dies_is_no_success(journey, nonce):
    """Half a stream has no place for a last word: the client hears of a broken connection."""
    asked = fields(nonce, "Tell me. [[cut:3]]", "text")
    for url in (journey.sim.url, journey.proxy.url):
        answer = client(url).converse_stream(**asked)
        with pytest.raises(Exception) as broken:
            list(answer["stream"])
        assert not isinstance(broken.value, AssertionError)


def test_errors_keep_their_status(journey, nonce):
    def failure(url):
        with pytest.raises(botocore.exceptions.ClientError) as raised:
            client(url).converse(**fields(nonce, "Fail. [[fail:429]]", "text"))
        return raised.value.response["ResponseMetadata"]["HTTPStatusCode"]

    assert failure(journey.proxy.url) == failure(journey.sim.url) == 429


def test_its_own_api_key_over_tls(journey, nonce, monkeypatch):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", KEY)

    def ask(_, question):
        config = botocore.config.Config(retries={"total_max_attempts": 1}, proxies={})
        tls = boto3.client(
            "bedrock-runtime", endpoint_url=journey.proxy.https_url, region_name="us-east-1",
            config=config, verify=False,
        )
        answer = tls.converse(**fields(nonce, question, "text"))
        return answer["output"], answer["output"]

    first = journey.missed(ask, dialect.QUESTION)
    assert journey.hit(ask, dialect.QUESTION) == first
    # The same key in clear is the same tenant.
    clear = client(journey.proxy.url)
    again = journey.hit(lambda _, question: clear.converse(**fields(nonce, question, "text")), dialect.QUESTION)
    assert again["output"] == first[0]


def test_signed_requests_share_answers_by_a_header(start, sim, nonce, monkeypatch):
    """Each signature is another credential, so who signs names the tenant in a header."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    proxy: rig.Reprise = start(sim.url, settings={"cache.scope": "header:x-team"})
    journey = dialect.Journey(proxy, sim)

    def ask(url, question, team="blue"):
        config = botocore.config.Config(retries={"total_max_attempts": 1}, proxies={})
        signing = boto3.client(
            "bedrock-runtime", endpoint_url=url, region_name="us-east-1", config=config
        )
        add = lambda request, **_: request.headers.add_header("x-team", team)  # noqa: E731
        signing.meta.events.register("before-sign.bedrock-runtime.Converse", add)
        answer = signing.converse(**fields(nonce, question, "text"))
        return answer["output"]

    first = journey.missed(ask, dialect.QUESTION)
    assert journey.hit(ask, dialect.QUESTION) == first
    assert journey.hit(ask, dialect.PARAPHRASE) == first
    journey.missed(lambda url, question: ask(url, question, "red"), dialect.QUESTION)
