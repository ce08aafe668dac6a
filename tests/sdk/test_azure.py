"""OpenAI's official client for Azure: deployments in the path, `api-version` in the query, `api-key`
in a header."""

import openai
import pytest

import answers
import dialect
from conftest import Way
from test_responses import essence as response_essence

VERSION = "2024-10-21"


def client(url: str, version: str = VERSION, key: str = "az-one") -> openai.AzureOpenAI:
    return openai.AzureOpenAI(azure_endpoint=url, api_version=version, api_key=key, max_retries=0)


@pytest.fixture
def chat(nonce):
    def asked(question):
        messages = [{"role": "system", "content": nonce}, {"role": "user", "content": question}]
        return {"model": "my-deployment", "messages": messages}

    def whole(url, question, **how):
        answer = client(url, **how).chat.completions.create(**asked(question))
        return answers.essence_of_whole(answer) | {"usage": None}, answer.model_dump()

    def stream(url, question):
        chunks = list(client(url).chat.completions.create(**asked(question), stream=True))
        return answers.essence_of_stream(chunks) | {"usage": None}, [one.model_dump() for one in chunks]

    return whole, stream


@pytest.mark.parametrize("first", ["whole", "stream"])
def test_chat(journey, chat, first):
    whole, stream = chat
    journey.walk(*((whole, stream) if first == "whole" else (stream, whole)))


def test_another_version_deployment_or_key_is_another_question(journey, chat, nonce):
    whole, _ = chat
    journey.missed(whole, dialect.QUESTION)
    journey.hit(whole, dialect.QUESTION)
    journey.missed(lambda url, question: whole(url, question, version="2025-01-01"), dialect.QUESTION)
    journey.missed(lambda url, question: whole(url, question, key="az-two"), dialect.QUESTION)

    def elsewhere(url, question):
        messages = [{"role": "system", "content": nonce}, {"role": "user", "content": question}]
        answer = client(url).chat.completions.create(model="other", messages=messages)
        return answer.choices[0].message.content, None

    journey.missed(elsewhere, dialect.QUESTION)


def test_responses(journey, nonce):
    def ask(url, question):
        answer = client(url).responses.create(model="my-deployment", instructions=nonce, input=question)
        return response_essence(answer), answer.model_dump()

    journey.walk(ask, None)


def test_embeddings_are_known_input_by_input(journey, sim, nonce):
    def embed(url, texts):
        made = client(url).embeddings.create(model=f"d-{nonce}", input=texts)
        return [item.embedding for item in made.data]

    expected = embed(sim.url, ["one", "two"])
    assert embed(journey.proxy.url, ["one"]) == expected[:1]
    calls = journey.total()
    assert embed(journey.proxy.url, ["two", "one"]) == expected[::-1]
    assert journey.total() == calls + 1
    assert embed(journey.proxy.url, ["one", "two"]) == expected
    assert journey.total() == calls + 1


def test_errors_are_azures_own(sim, proxy, nonce):
    def failure(url):
        with pytest.raises(openai.APIStatusError) as raised:
            client(url).chat.completions.create(
                model="d", messages=[{"role": "user", "content": f"{nonce} [[fail:429]]"}]
            )
        return raised.value.status_code, raised.value.body

    assert failure(proxy.url) == failure(sim.url)


def test_without_a_version_azure_itself_answers(sim, proxy):
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    told = [
        Way("http1", url).raw().post("/openai/deployments/d/chat/completions", json=body)
        for url in (sim.url, proxy.url)
    ]
    assert told[0].status_code == told[1].status_code == 404
