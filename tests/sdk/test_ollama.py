"""Ollama's official client: lines of JSON."""

import ollama
import pytest

import dialect


def client(url: str) -> ollama.Client:
    return ollama.Client(host=url, trust_env=False)


TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}}


def said(message) -> dict:
    calls = [call.model_dump() for call in message.tool_calls or []]
    return {"content": message.content or "", "calls": calls}


@pytest.fixture(params=["text", "tools"])
def chat(request, nonce):
    def asked(question: str) -> dict:
        if request.param == "tools":
            question = question.replace("password", "weather")
        messages = [{"role": "system", "content": nonce}, {"role": "user", "content": question}]
        tools = {"tools": [TOOL]} if request.param == "tools" else {}
        return {"model": "llama", "messages": messages, "options": {"temperature": 0.1}, **tools}

    def whole(url, question):
        answer = client(url).chat(**asked(question))
        return (said(answer.message), answer.done_reason, answer.eval_count), answer.model_dump()

    def stream(url, question):
        parts = list(client(url).chat(**asked(question), stream=True))
        content = "".join(part.message.content or "" for part in parts)
        calls = [call for part in parts for call in said(part.message)["calls"]]
        last = parts[-1]
        essence = ({"content": content, "calls": calls}, last.done_reason, last.eval_count)
        return essence, [part.model_dump() for part in parts]

    # The weather of all times is repeated exactly only.
    return whole, stream, request.param == "text"


@pytest.fixture
def generate(nonce):
    def asked(question: str) -> dict:
        return {"model": "llama", "prompt": question, "system": nonce, "keep_alive": "5m"}

    def whole(url, question):
        answer = client(url).generate(**asked(question))
        return (answer.response, answer.done_reason, answer.eval_count), answer.model_dump()

    def stream(url, question):
        parts = list(client(url).generate(**asked(question), stream=True))
        text = "".join(part.response for part in parts)
        return (text, parts[-1].done_reason, parts[-1].eval_count), [p.model_dump() for p in parts]

    return whole, stream


@pytest.mark.parametrize("first", ["whole", "stream"])
def test_chat(journey, chat, first):
    whole, stream, semantic = chat
    journey.walk(*((whole, stream) if first == "whole" else (stream, whole)), semantic)


@pytest.mark.parametrize("first", ["whole", "stream"])
def test_generate(journey, generate, first):
    whole, stream = generate
    journey.walk(*((whole, stream) if first == "whole" else (stream, whole)))


def test_errors_are_ollamas(start):
    dead = start("http://127.0.0.1:1")
    with pytest.raises(ollama.ResponseError) as raised:
        client(dead.url).generate(model="llama", prompt=dialect.QUESTION)
    assert raised.value.status_code in (502, 504)
    assert "upstream_connect" in raised.value.error


def test_a_stream_that_dies_says_so(journey, nonce):
    parts = client(journey.proxy.url).generate(model="llama", prompt=f"{nonce} [[cut:5]]", stream=True)
    with pytest.raises(ollama.ResponseError) as raised:
        list(parts)
    assert "upstream" in raised.value.error
