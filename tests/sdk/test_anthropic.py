"""Anthropic's official client."""

import anthropic
import pytest

import dialect

TOOL = {
    "name": "get_weather", "description": "Weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def fields(nonce: str, question: str, kind: str) -> dict:
    asked = {
        "model": "claude", "max_tokens": 500,
        "system": [{"type": "text", "text": f"Be brief. {nonce}", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": question},
        ],
    }
    if kind == "tools":
        asked |= {"tools": [TOOL], "tool_choice": {"type": "any"}}
    return asked


def essence(message) -> dict:
    return message.model_dump(exclude={"id"})


def client(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="sk-ant", max_retries=0)


@pytest.fixture(params=["text", "tools"])
def asks(request, nonce):
    def whole(url, question):
        message = client(url).messages.create(**fields(nonce, question, request.param))
        return essence(message), message.model_dump()

    def stream(url, question):
        with client(url).messages.stream(**fields(nonce, question, request.param)) as events:
            seen = [event.type for event in events]
            message = events.get_final_message()
        assert seen[-1] == "message_stop" and seen[0] == "message_start"
        return essence(message), message.model_dump()

    return whole, stream


@pytest.mark.parametrize("first", ["whole", "stream"])
def test_misses_hits_paraphrases_and_both_shapes(journey, asks, first):
    whole, stream = asks
    journey.walk(*((whole, stream) if first == "whole" else (stream, whole)))


def test_cache_control_and_metadata_do_not_matter_but_the_version_does(journey, nonce):
    def ask(url, question, headers=None, mark=True, **more):
        asked = fields(nonce, question, "text") | more
        if not mark:
            del asked["system"][0]["cache_control"]
        message = client(url).messages.create(**asked, extra_headers=headers)
        return essence(message), message.model_dump()

    journey.missed(ask, dialect.QUESTION)
    journey.hit(lambda url, question: ask(url, question, mark=False), dialect.QUESTION)
    user = {"metadata": {"user_id": "u1"}}
    journey.hit(lambda url, question: ask(url, question, **user), dialect.QUESTION)
    beta = {"anthropic-beta": "context-1m-2025-08-07"}
    journey.missed(lambda url, question: ask(url, question, beta), dialect.QUESTION)


def test_a_tools_result_is_repeated_exactly_only(journey, nonce):
    def ask(url, question):
        asked = fields(nonce, "What is the weather in Oslo?", "tools")
        call = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}}
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": question}
        asked["messages"] += [
            {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]},
        ]
        message = client(url).messages.create(**asked)
        return essence(message), message.model_dump()

    journey.missed(ask, dialect.QUESTION)
    journey.hit(ask, dialect.QUESTION)
    journey.missed(ask, dialect.PARAPHRASE)


def test_errors_are_anthropics(start, nonce):
    dead = start("http://127.0.0.1:1")
    with pytest.raises(anthropic.APIStatusError) as raised:
        client(dead.url).messages.create(**fields(nonce, "Hello", "text"))
    assert raised.value.status_code in (502, 504)
    assert raised.value.body["type"] == "error"
    assert raised.value.body["error"]["type"] == "api_error"


def test_a_stream_that_dies_ends_as_anthropics_do(journey, nonce):
    asked = fields(nonce, "Tell me [[cut:5]]", "text")
    with pytest.raises(anthropic.APIError) as raised:
        with client(journey.proxy.url).messages.stream(**asked) as events:
            for _ in events:
                pass
    assert "upstream" in str(raised.value)
    calls = journey.total()
    with pytest.raises(anthropic.APIError):
        with client(journey.proxy.url).messages.stream(**asked) as events:
            list(events)
    assert journey.total() == calls + 1, "what was cut is not kept"
