"""Google's official client."""

import httpx2
import pytest
from google import genai
from google.genai import types

import dialect


def client(url: str) -> genai.Client:
    """To be held while it is used: it closes its connections when it is let go."""
    return genai.Client(api_key="g-key", http_options=types.HttpOptions(base_url=url))


def essence(parts, last) -> dict:
    text = "".join(part.text or "" for part in parts)
    calls = [part.function_call.model_dump() for part in parts if part.function_call]
    usage = last.usage_metadata
    return {
        "text": text, "calls": calls, "finish": last.candidates[0].finish_reason,
        "usage": (usage.prompt_token_count, usage.candidates_token_count),
    }


@pytest.fixture(params=["text", "tools"])
def asks(request, nonce):
    config = types.GenerateContentConfig(system_instruction=f"Be brief. {nonce}", temperature=0.2)
    weather = request.param == "tools"
    if weather:
        declared = types.FunctionDeclaration(name="get_weather", description="Weather of a city")
        config.tools = [types.Tool(function_declarations=[declared])]

    def asked(question: str) -> dict:
        question = question.replace("password", "weather") if weather else question
        return {"model": "gemini-pro", "contents": question, "config": config}

    def whole(url, question):
        google = client(url)
        answer = google.models.generate_content(**asked(question))
        return essence(answer.candidates[0].content.parts, answer), answer.response_id

    def stream(url, question):
        google = client(url)
        chunks = list(google.models.generate_content_stream(**asked(question)))
        parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
        return essence(parts, chunks[-1]), [chunk.response_id for chunk in chunks]

    # The weather of all times is repeated exactly only.
    return whole, stream, not weather


@pytest.mark.parametrize("first", ["whole", "stream"])
def test_misses_hits_paraphrases_and_both_shapes(journey, asks, first):
    whole, stream, semantic = asks
    journey.walk(*((whole, stream) if first == "whole" else (stream, whole)), semantic)


def test_a_list_of_chunks_is_the_same_answer_too(journey, nonce):
    """Without alt=sse a stream is one JSON list."""
    path = "/v1beta/models/gemini-pro"

    def body(question):
        return {
            "systemInstruction": {"parts": [{"text": nonce}]},
            "contents": [{"role": "user", "parts": [{"text": question}]}],
        }

    def text(chunks):
        return "".join(p["text"] for c in chunks for p in c["candidates"][0]["content"]["parts"])

    def listed(url, question):
        answer = httpx2.post(f"{url}{path}:streamGenerateContent", json=body(question), trust_env=False)
        return text(answer.json()), answer.content

    def whole(url, question):
        answer = httpx2.post(f"{url}{path}:generateContent", json=body(question), trust_env=False)
        return text([answer.json()]), answer.content

    journey.walk(listed, whole)


def test_errors_are_googles(start):
    google = client(start("http://127.0.0.1:1").url)
    with pytest.raises(genai.errors.ServerError) as raised:
        google.models.generate_content(model="gemini-pro", contents=dialect.QUESTION)
    assert raised.value.code in (502, 504)
    assert raised.value.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
