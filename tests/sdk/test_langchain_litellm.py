"""Two libraries that many programs stand on: langchain-openai and litellm."""

import os

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

litellm = pytest.importorskip("litellm")
langchain_openai = pytest.importorskip("langchain_openai")


@pytest.fixture
def langchain(nonce):
    def model(url):
        return langchain_openai.ChatOpenAI(
            model="sim", base_url=f"{url}/v1", api_key="sk-lc", max_retries=0, stream_usage=True
        )

    def messages(question):
        return [("system", nonce), ("human", question)]

    def whole(url, question):
        answer = model(url).invoke(messages(question))
        return (answer.content, answer.usage_metadata["total_tokens"]), answer.response_metadata["id"]

    def stream(url, question):
        whole = None
        for chunk in model(url).stream(messages(question)):
            whole = chunk if whole is None else whole + chunk
        return (whole.content, whole.usage_metadata["total_tokens"]), whole.content

    return whole, stream


@pytest.fixture(params=["openai", "anthropic"])
def lite(request, nonce):
    def fields(url, question):
        messages = [{"role": "system", "content": nonce}, {"role": "user", "content": question}]
        base = f"{url}/v1" if request.param == "openai" else url
        return {
            "model": f"{request.param}/claude-sim", "api_base": base, "api_key": "sk-ll",
            "messages": messages, "max_tokens": 400, "num_retries": 0,
        }

    def whole(url, question):
        answer = litellm.completion(**fields(url, question))
        return answer.choices[0].message.content, answer.choices[0].message.content

    def stream(url, question):
        chunks = litellm.completion(**fields(url, question), stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        return text, text

    return whole, stream


@pytest.mark.parametrize("first", ["whole", "stream"])
def test_langchain(journey, langchain, first):
    whole, stream = langchain
    journey.walk(*((whole, stream) if first == "whole" else (stream, whole)))


@pytest.mark.parametrize("first", ["whole", "stream"])
def test_litellm(journey, lite, first):
    whole, stream = lite
    journey.walk(*((whole, stream) if first == "whole" else (stream, whole)))
