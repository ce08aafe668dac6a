"""The simulated server itself, by the official client: what every other test leans on."""

import json
import time

import openai
import pydantic
import pytest

import answers
import contract
import rig
from conftest import Way

pytestmark = pytest.mark.direct

TOOLS = [{
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
        },
    },
}]


def test_an_answer_carries_the_stamp_of_its_request_and_credential(direct: Way, ask):
    body = ask("How do I reset my PIN? Ünïcode \u2028 \"quotes\" \x7f", temperature=0.5, seed=7)
    for key in ("sk-one", "sk-two"):
        answer = direct.client(key).chat.completions.create(**body)
        assert contract.stamps(answer.choices[0].message.content) == [
            contract.stamp(body, f"Bearer {key}")
        ]


def test_the_same_request_gets_the_same_answer_with_a_new_id(direct: Way, ask):
    first, second = (direct.client().chat.completions.create(**ask("Hello there")) for _ in "ab")
    assert answers.whole(first) == answers.whole(second)
    assert first.id != second.id


@pytest.mark.parametrize("fields", [
    {}, {"n": 3}, {"logprobs": True, "top_logprobs": 2}, {"tools": TOOLS},
    {"tools": TOOLS, "tool_choice": "required", "n": 2},
    {"response_format": {"type": "json_object"}}, {"max_tokens": 7}, {"stop": ["open", "the"]},
])
def test_a_stream_adds_up_to_the_whole_answer(direct: Way, ask, fields):
    client = direct.client()
    body = ask("What is the weather in Paris? [[tokens:40]]", **fields)
    whole = client.chat.completions.create(**body)
    stream = list(client.chat.completions.create(
        **body, stream=True, stream_options={"include_usage": True}
    ))
    assert answers.essence_of_stream(stream) == answers.essence_of_whole(whole)
    assert stream[-1].choices == []
    assert all(chunk.usage is None for chunk in stream[:-1])


def test_usage_comes_only_when_asked_for(direct: Way, ask):
    stream = list(direct.client().chat.completions.create(**ask("Hello"), stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in stream)


def test_a_weather_question_calls_the_tool_and_its_result_ends_the_loop(direct: Way, ask):
    client = direct.client()
    body = ask("What is the weather in Oslo?", tools=TOOLS)
    message = client.chat.completions.create(**body).choices[0].message
    assert message.content is None
    [call] = message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert arguments["unit"] in {"C", "F"}
    assert contract.stamps(arguments["city"]) == [contract.stamp(body, "Bearer sk-one")]
    result = {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"}
    body["messages"] += [message.model_dump(exclude_none=True), result]
    after = client.chat.completions.create(**body)
    assert after.choices[0].finish_reason == "stop"


def test_parallel_tool_calls_are_told_apart(direct: Way, ask):
    body = ask("weather please", system="[[calls:3]]", tools=TOOLS)
    calls = direct.client().chat.completions.create(**body).choices[0].message.tool_calls
    assert len({call.id for call in calls}) == 3


def test_structured_output_fits_its_schema(direct: Way, ask):
    class Steps(pydantic.BaseModel):
        title: str
        count: int
        steps: list[str]

    parsed = direct.client().chat.completions.parse(**ask("Plan it"), response_format=Steps)
    steps = parsed.choices[0].message.parsed
    assert isinstance(steps, Steps)
    assert contract.stamps(steps.model_dump_json())


def test_images_are_taken_and_count(direct: Way, ask):
    def picture(url: str) -> dict:
        parts = [
            {"type": "text", "text": "What is on it?"},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        return ask(parts)

    client = direct.client()
    texts = {
        client.chat.completions.create(**picture(url)).choices[0].message.content
        for url in ("data:image/png;base64,AAAA", "data:image/png;base64,AAAB")
    }
    assert len(texts) == 2


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_depend_on_the_text_alone(direct: Way, encoding):
    def embed(*texts: str):
        made = direct.client().embeddings.create(
            model="sim", input=list(texts), encoding_format=encoding
        )
        return [one.embedding for one in made.data]

    [one, two] = embed("a", "b")
    assert [one] == embed("a") and one != two


def test_the_clients_default_embedding_is_a_unit_vector(direct: Way):
    made = direct.client().embeddings.create(model="sim", input="a", dimensions=32)
    vector = made.data[0].embedding
    assert len(vector) == 32
    assert abs(sum(value * value for value in vector) - 1) < 1e-5


@pytest.mark.parametrize("marker, error", [
    ("[[fail:500]]", openai.InternalServerError),
    ("[[fail:429]]", openai.RateLimitError),
    ("[[fail:nonsense]]", openai.BadRequestError),
])
def test_failures_on_demand(direct: Way, ask, marker, error):
    with pytest.raises(error):
        direct.client().chat.completions.create(**ask(f"Hello {marker}"))


def test_errors_as_the_official_client_knows_them(direct: Way, ask):
    with pytest.raises(openai.AuthenticationError):
        direct.client("sim-invalid").chat.completions.create(**ask("Hello"))
    with pytest.raises(openai.NotFoundError):
        direct.client().chat.completions.create(**{**ask("Hello"), "model": "missing-model"})
    with pytest.raises(openai.APIError):
        list(direct.client().chat.completions.create(**ask("Hi [[sse-error:3]]"), stream=True))


def test_finish_reasons_on_demand(direct: Way, ask):
    def finish(marker: str) -> str:
        answer = direct.client().chat.completions.create(**ask(f"Hello {marker}"))
        return answer.choices[0].finish_reason

    assert finish("[[length]]") == "length"
    assert finish("[[filter]]") == "content_filter"
    assert finish("[[empty]]") == "stop"


def test_a_cut_stream_delivers_its_tokens_and_breaks(direct: Way, ask):
    stream = direct.client().chat.completions.create(**ask("Hi [[cut:3]]"), stream=True)
    got = []
    with pytest.raises(openai.APIConnectionError):
        for chunk in stream:
            got.append(chunk)
    assert len(got) == 4


def test_a_client_that_hangs_up_is_counted(ask):
    """By a server of its own: a proxy may still be finishing something on the shared one."""
    server = rig.Simulated()
    try:
        client = Way("http1", server.url).client()
        stream = client.chat.completions.create(**ask("Hi [[stall:2]]"), stream=True)
        next(iter(stream))
        stream.response.close()
        rig.eventually(lambda: server.stats()["aborted"] == 1, what="the abort")
        assert server.stats()["in_flight"] == 0
    finally:
        server.stop()


def test_a_missing_done_and_garbage_on_demand(direct: Way, ask):
    with direct.raw() as raw:
        def fetch(marker: str) -> bytes:
            body = ask(f"Hi {marker}", stream=True)
            return raw.post("/v1/chat/completions", json=body).content

        assert answers.events(fetch("[[nodone]]"))[-1] != "[DONE]"
        assert b"not json" in fetch("[[garbage]]")


def test_the_pace_can_be_set(direct: Way, ask):
    begun = time.monotonic()
    direct.client().chat.completions.create(**ask("Hi [[slow:200ms]][[rate:100]][[tokens:20]]"))
    # At a token a second it would be twenty seconds.
    assert 0.4 <= time.monotonic() - begun < 15
