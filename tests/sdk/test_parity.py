"""The official client gets the same from the proxy as from the upstream: on a miss, an exact hit,
a semantic hit, and a hit in the other shape; by every protocol."""

import json

import anyio
import pydantic
import pytest

import answers
import contract
from conftest import Way
from test_simulated import TOOLS

#: Two ways to say one thing, plain enough for the default policy.
QUESTION = "How do I reset my online banking password?"
PARAPHRASE = "How can I reset my online banking password?"

KINDS = {
    "text": {},
    "array_content": {"array": True},
    "tools": {"tools": TOOLS, "tool_choice": "required"},
    "several": {"n": 3},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "json_object": {"response_format": {"type": "json_object"}},
    "sampling": {"temperature": 0.7, "top_p": 0.9, "seed": 11, "stop": ["zebra"]},
    "unknown_field": {"extra_body": {"top_k": 20, "vendor": {"b": 1, "a": [None]}}},
}


def build(ask, kind: str, prompt: str = QUESTION) -> dict:
    fields = dict(KINDS[kind])
    array = fields.pop("array", False)
    return ask([{"type": "text", "text": prompt}] if array else prompt, **fields)


def as_sent(body: dict) -> dict:
    """The JSON that the client makes of its arguments."""
    sent = {name: value for name, value in body.items() if name != "extra_body"}
    return {**sent, **body.get("extra_body", {})}


def create(client, body: dict, **more):
    """One call, with the verdict of its headers."""
    raw = client.chat.completions.with_raw_response.create(**body, **more)
    return raw.parse(), contract.verdict(raw.headers)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_miss_then_exact_hit(each_way: Way, direct: Way, cached, sim, ask, kind):
    body = build(ask, kind)
    expected = answers.whole(direct.client().chat.completions.create(**body))
    sim.reset()
    client = each_way.client()
    missed, verdict = create(client, body)
    assert answers.whole(missed) == expected
    assert (verdict.outcome, verdict.x_cache) == ("miss", "MISS")
    cached.wait(as_sent(body))
    hit, verdict = create(client, body)
    assert hit.model_dump() == missed.model_dump(), "a replay keeps even id and created"
    assert (verdict.outcome, verdict.x_cache) == ("hit_exact", "HIT")
    assert sim.calls() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_streamed_miss_then_exact_hit(each_way: Way, direct: Way, cached, sim, ask, kind):
    body = build(ask, kind)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    expected = answers.chunks(list(direct.client().chat.completions.create(**body, **options)))
    sim.reset()
    client = each_way.client()
    stream, verdict = create(client, body, **options)
    missed = list(stream)
    assert answers.chunks(missed) == expected
    assert verdict.outcome == "miss"
    cached.wait({**as_sent(body), **options})
    stream, verdict = create(client, body, **options)
    assert [c.model_dump() for c in stream] == [c.model_dump() for c in missed]
    assert verdict.outcome == "hit_exact"
    assert sim.calls() == 1


@pytest.mark.parametrize("kind", ["text", "tools", "json_object", "sampling"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_paraphrase_hits_and_gets_the_stored_answer(
    each_way: Way, cached, sim, ask, kind, stream
):
    stored, asked = build(ask, kind, QUESTION), build(ask, kind, PARAPHRASE)
    sim.reset()
    client = each_way.client()
    original, _ = create(client, stored)
    cached.wait(as_sent(asked))
    answer, verdict = create(client, asked, stream=stream)
    assert verdict.outcome == "hit_semantic"
    assert verdict.similarity >= 0.95
    if stream:
        expected = answers.essence_of_whole(original) | {"usage": None}
        assert answers.essence_of_stream(list(answer)) == expected
    else:
        assert answer.model_dump() == original.model_dump()
    assert sim.calls() == 1


@pytest.mark.parametrize("kind", ["several", "logprobs"])
def test_several_choices_and_logprobs_are_never_matched_by_meaning(via: Way, cached, sim, ask, kind):
    client = via.client()
    create(client, build(ask, kind, QUESTION))
    cached.wait(build(ask, kind, QUESTION))
    sim.reset()
    _, verdict = create(client, build(ask, kind, PARAPHRASE))
    assert verdict.outcome == "miss"
    assert sim.calls() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_streamed_entry_serves_a_whole_request(each_way: Way, direct: Way, cached, sim, ask, kind):
    body = build(ask, kind)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    expected = answers.essence_of_whole(direct.client().chat.completions.create(**body))
    client = each_way.client()
    stream, _ = create(client, body, **options)
    identity = {(chunk.id, chunk.created) for chunk in stream}
    cached.wait(as_sent(body))
    sim.reset()
    answer, verdict = create(client, body)
    assert verdict.outcome == "hit_exact"
    assert answers.essence_of_whole(answer) == expected
    assert {(answer.id, answer.created)} == identity
    assert answer.object == "chat.completion"
    assert sim.calls() == 0


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_entry_serves_a_stream(each_way: Way, direct: Way, cached, sim, ask, kind, usage):
    body = build(ask, kind)
    options = {"stream": True, "stream_options": {"include_usage": usage}}
    expected = list(direct.client().chat.completions.create(**body, **options))
    client = each_way.client()
    whole, _ = create(client, body)
    cached.wait(as_sent(body))
    sim.reset()
    stream, verdict = create(client, body, **options)
    stream = list(stream)
    assert verdict.outcome == "hit_exact"
    assert answers.essence_of_stream(stream) == answers.essence_of_stream(expected)
    assert {(chunk.id, chunk.created) for chunk in stream} == {(whole.id, whole.created)}
    assert {chunk.object for chunk in stream} == {"chat.completion.chunk"}
    assert bool(stream[-1].choices) != usage, "the usage chunk has no choices"
    assert sim.calls() == 0


def test_a_stream_without_usage_never_gets_the_usage_chunk(via: Way, cached, sim, ask):
    """Clients that did not ask for it read choices[0] of every chunk."""
    body = ask(QUESTION, stream=True, stream_options={"include_usage": True})
    client = via.client()
    list(create(client, body)[0])
    cached.wait(body)
    del body["stream_options"]
    sim.reset()
    with via.raw() as raw:
        headers = {"authorization": "Bearer sk-one"}
        response = raw.post("/v1/chat/completions", json=body, headers=headers)
    chunks = answers.chunk_objects(response.content)
    assert all(chunk["choices"] and not chunk.get("usage") for chunk in chunks)
    assert sim.calls() == 0


def test_a_stream_with_usage_gets_it_even_when_the_entry_had_none(via: Way, direct, cached, ask):
    body = ask(QUESTION, stream=True)
    client = via.client()
    list(create(client, body)[0])
    cached.wait(body)
    body["stream_options"] = {"include_usage": True}
    expected = list(direct.client().chat.completions.create(**body))
    stream = list(create(client, body)[0])
    assert answers.essence_of_stream(stream) == answers.essence_of_stream(expected)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["text", "tools", "several", "logprobs"])
def test_the_same_shape_replays_byte_for_byte(each_way: Way, cached, sim, ask, kind, stream):
    body = build(ask, kind) | {"stream": stream}
    headers = {"authorization": "Bearer sk-one"}
    sim.reset()
    with each_way.raw() as raw:
        first = raw.post("/v1/chat/completions", json=body, headers=headers)
        cached.wait(body)
        second = raw.post("/v1/chat/completions", json=body, headers=headers)
    assert contract.verdict(second.headers).outcome == "hit_exact"
    assert second.content == first.content
    assert second.headers["content-type"] == first.headers["content-type"]
    assert sim.calls() == 1


def test_protocols_are_what_they_claim_to_be(each_way: Way, ask):
    with each_way.raw() as raw:
        response = raw.post("/v1/chat/completions", json=ask("Which protocol is this?"))
    assert response.http_version == ("HTTP/2" if "http2" in each_way.name else "HTTP/1.1")


@pytest.mark.anyio
async def test_the_async_client(each_way: Way, direct: Way, ask):
    bodies = [ask(f"Question number {i} about card {i * 7}") for i in range(20)]
    expected = [
        answers.whole(direct.client().chat.completions.create(**body)) for body in bodies
    ]
    results: dict[int, dict] = {}
    async with each_way.async_client() as client:
        async def one(index: int) -> None:
            answer = await client.chat.completions.create(**bodies[index])
            results[index] = answers.whole(answer)

        for _ in "miss", "hit":
            results.clear()
            async with anyio.create_task_group() as group:
                for index in range(len(bodies)):
                    group.start_soon(one, index)
            assert [results[index] for index in range(len(bodies))] == expected


@pytest.mark.anyio
async def test_the_async_client_streaming(each_way: Way, direct: Way, ask):
    body = ask("Tell me about exchange rates") | {
        "stream": True, "stream_options": {"include_usage": True},
    }
    expected = answers.chunks(list(direct.client().chat.completions.create(**body)))
    async with each_way.async_client() as client:
        for _ in "miss", "hit":
            stream = await client.chat.completions.create(**body)
            assert answers.chunks([chunk async for chunk in stream]) == expected


def test_an_agents_loop_with_tools(each_way: Way, ask):
    """A call, its result, the answer; and all of it again from memory."""
    client = each_way.client()

    def loop() -> tuple[str, str]:
        body = ask("What is the weather in Lima?", tools=TOOLS)
        message = client.chat.completions.create(**body).choices[0].message
        [call] = message.tool_calls
        city = json.loads(call.function.arguments)["city"]
        result = {"role": "tool", "tool_call_id": call.id, "content": f"{city}: sunny"}
        body["messages"] += [message.model_dump(exclude_none=True), result]
        return city, client.chat.completions.create(**body).choices[0].message.content

    assert loop() == loop()


def test_the_stream_helper_with_tools(each_way: Way, cached, ask):
    """The client's own accumulator is strict about the order of tool call deltas."""
    client = each_way.client()
    body = ask("What is the weather in Rome?", tools=TOOLS)
    client.chat.completions.create(**body)
    cached.wait(body)
    with client.chat.completions.stream(**body) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls
    assert json.loads(call.function.arguments)["unit"] in {"C", "F"}
    assert final.choices[0].finish_reason == "tool_calls"


def test_structured_outputs(each_way: Way, cached, sim, ask):
    class Account(pydantic.BaseModel):
        holder: str
        balance: float

    client = each_way.client()
    sim.reset()
    body = ask("Whose account is this?")
    first = client.chat.completions.parse(**body, response_format=Account)
    second = client.chat.completions.parse(**body, response_format=Account)
    assert isinstance(second.choices[0].message.parsed, Account)
    assert first.choices[0].message.parsed == second.choices[0].message.parsed
    assert sim.calls() == 1


def test_images_are_part_of_the_question(via: Way, cached, sim, ask):
    def picture(data: str) -> dict:
        url = f"data:image/png;base64,{data}"
        return ask([
            {"type": "text", "text": "What is on this picture?"},
            {"type": "image_url", "image_url": {"url": url}},
        ])

    client = via.client()
    sim.reset()
    for data in ("AAAA", "AAAB"):
        answer, verdict = create(client, picture(data))
        assert verdict.outcome == "miss"
        assert contract.stamps(answer.choices[0].message.content) == [
            contract.stamp(picture(data), "Bearer sk-one")
        ]
    cached.wait(picture("AAAA"))
    assert create(client, picture("AAAA"))[1].outcome == "hit_exact"
    assert sim.calls() == 2
