"""OpenAI's official client beyond chat: responses, legacy completions, embeddings."""

import openai
import pytest

import dialect
from conftest import Way
from test_simulated import TOOLS


def client(url: str) -> openai.OpenAI:
    return Way("http1", url).client()


def tool() -> dict:
    function = TOOLS[0]["function"]
    return {"type": "function", "name": function["name"], "parameters": function["parameters"]}


def essence(response) -> dict:
    said = response.model_dump(exclude={"id", "created_at"})
    for item in said["output"]:
        item.pop("id")
    return said


@pytest.fixture(params=["text", "tools", "items"])
def responses(request, nonce):
    def asked(question: str) -> dict:
        fields = {"model": "sim", "instructions": f"Be brief. {nonce}", "input": question}
        if request.param == "tools":
            fields |= {"tools": [tool()], "tool_choice": "required"}
        if request.param == "items":
            fields["input"] = [
                {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"},
                {"role": "user", "content": [{"type": "input_text", "text": question}]},
            ]
        return fields

    def whole(url, question):
        response = client(url).responses.create(**asked(question))
        return essence(response), response.model_dump()

    def stream(url, question):
        with client(url).responses.stream(**asked(question)) as events:
            seen = [event.model_dump() for event in events]
            response = events.get_final_response()
        assert seen[-1]["type"] == "response.completed"
        said = essence(response)
        for item in said["output"]:
            # What the accumulating client adds.
            item.pop("parsed_arguments", None)
            for part in item.get("content") or []:
                part.pop("parsed", None)
        return said, seen

    return whole, stream


@pytest.mark.parametrize("first", ["whole", "stream"])
def test_responses(journey, responses, first):
    whole, stream = responses
    journey.walk(*((whole, stream) if first == "whole" else (stream, whole)))


def test_a_response_that_goes_on_is_repeated_exactly_only(journey, nonce):
    def ask(url, question):
        fields = {"model": "sim", "instructions": nonce, "input": question}
        response = client(url).responses.create(**fields, previous_response_id="resp_0")
        return essence(response), response.model_dump()

    journey.missed(ask, dialect.QUESTION)
    journey.hit(ask, dialect.QUESTION)
    journey.missed(ask, dialect.PARAPHRASE)


@pytest.mark.parametrize("state", [{"conversation": "conv_1"}, {"background": True}])
def test_state_on_the_server_is_never_cached(journey, nonce, state):
    for _ in "twice":
        calls = journey.total()
        raw = client(journey.proxy.url).responses.with_raw_response.create(
            model="sim", instructions=nonce, input=dialect.QUESTION, **state
        )
        assert "detail=stateful" in raw.headers["cache-status"]
        assert journey.total() == calls + 1


@pytest.fixture
def completions(nonce):
    def asked(question: str) -> dict:
        return {"model": "sim", "prompt": question, "max_tokens": 300, "suffix": nonce}

    def whole(url, question):
        answer = client(url).completions.create(**asked(question))
        choice = answer.choices[0]
        return (choice.text, choice.finish_reason), answer.model_dump()

    def stream(url, question):
        chunks = list(client(url).completions.create(**asked(question), stream=True))
        text = "".join(chunk.choices[0].text for chunk in chunks)
        return (text, chunks[-1].choices[0].finish_reason), [c.model_dump() for c in chunks]

    return whole, stream


@pytest.mark.parametrize("first", ["whole", "stream"])
def test_completions(journey, completions, first):
    whole, stream = completions
    journey.walk(*((whole, stream) if first == "whole" else (stream, whole)))


def embed(url: str, nonce: str, texts):
    made = client(url).embeddings.create(model=f"sim-{nonce}", input=texts)
    return [item.embedding for item in made.data], made.usage.prompt_tokens


def test_embeddings_are_known_input_by_input(journey, sim, nonce):
    proxy, origin = journey.proxy.url, sim.url
    texts = ["the first text", "the second", "a third one", "and the fourth text"]
    expected, counted = embed(origin, nonce, texts)
    sim.reset()
    assert embed(proxy, nonce, texts[:2]) == embed(origin, nonce, texts[:2])
    sim.reset()
    # Two are known: the upstream is asked for the other two alone, and the order is kept.
    shuffled = [texts[2], texts[0], texts[3], texts[1]]
    vectors, tokens = embed(proxy, nonce, shuffled)
    assert vectors == [expected[2], expected[0], expected[3], expected[1]]
    assert sim.calls("/v1/embeddings") == 1
    assert tokens == embed(origin, nonce, [texts[2], texts[3]])[1], "what this request cost"
    sim.reset()
    # Now all are known, in any order, alone or together.
    assert embed(proxy, nonce, texts) == (expected, 0)
    assert embed(proxy, nonce, texts[3])[0] == [expected[3]]
    assert embed(proxy, nonce, [texts[1]])[0] == [expected[1]]
    assert sim.calls("/v1/embeddings") == 0
    assert counted > 0


def test_another_model_or_size_is_another_vector(journey, sim, nonce):
    made = client(journey.proxy.url).embeddings
    first = made.create(model=nonce, input="a")
    sim.reset()
    made.create(model=nonce, input="a", dimensions=8)
    made.create(model=f"{nonce}-2", input="a")
    assert sim.calls("/v1/embeddings") == 2
    assert len(first.data[0].embedding) == 64
