"""Cohere's official client, v2."""

import cohere
import pytest

import dialect

TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}}


def client(url: str) -> cohere.ClientV2:
    return cohere.ClientV2(api_key="co-key", base_url=url)


@pytest.fixture(params=["text", "tools"])
def asks(request, nonce):
    def asked(question: str) -> dict:
        if request.param == "tools":
            question = question.replace("password", "weather")
        messages = [{"role": "system", "content": nonce}, {"role": "user", "content": question}]
        tools = {"tools": [TOOL]} if request.param == "tools" else {}
        return {"model": "command-a", "messages": messages, **tools}

    def whole(url, question):
        answer = client(url).chat(**asked(question))
        text = "".join(part.text for part in answer.message.content or [])
        calls = [(c.id, c.function.name, c.function.arguments) for c in answer.message.tool_calls or []]
        usage = answer.usage.tokens.output_tokens
        return (text, calls, answer.finish_reason, usage), answer.model_dump()

    def stream(url, question):
        text, calls, end = "", [], None
        events = list(client(url).chat_stream(**asked(question)))
        for event in events:
            if event.type == "content-delta":
                text += event.delta.message.content.text
            elif event.type == "tool-call-start":
                call = event.delta.message.tool_calls
                calls.append([call.id, call.function.name, call.function.arguments or ""])
            elif event.type == "tool-call-delta":
                calls[-1][2] += event.delta.message.tool_calls.function.arguments
            elif event.type == "message-end":
                end = event.delta
        essence = (text, [tuple(c) for c in calls], end.finish_reason, end.usage.tokens.output_tokens)
        return essence, [event.model_dump() for event in events]

    # The weather of all times is repeated exactly only.
    return whole, stream, request.param == "text"


@pytest.mark.parametrize("first", ["whole", "stream"])
def test_misses_hits_paraphrases_and_both_shapes(journey, asks, first):
    whole, stream, semantic = asks
    journey.walk(*((whole, stream) if first == "whole" else (stream, whole)), semantic)


def test_errors_are_coheres(start):
    dead = start("http://127.0.0.1:1")
    messages = [{"role": "user", "content": dialect.QUESTION}]
    options = {"max_retries": 0}
    with pytest.raises(cohere.core.ApiError) as raised:
        client(dead.url).chat(model="command-a", messages=messages, request_options=options)
    assert raised.value.status_code in (502, 504)
    assert "upstream_connect" in raised.value.body["message"]
