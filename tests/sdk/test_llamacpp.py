"""llama.cpp's own server (PyPI's llama-cpp-python) with a model of random weights, by the official
OpenAI client. It builds for some ten minutes, so `make test` leaves it out: scripts/test-llamacpp
brings it and runs this."""

import os
import pathlib
import subprocess

import httpx2
import openai
import pytest

import contract
import dialect
import rig
from dialect import PARAPHRASE, QUESTION

PYTHON = rig.ROOT / os.environ.get("REPRISE_LLAMA_PYTHON", ".tools/llama-venv/bin/python")

# Its web framework says `no-store` with every stream.
CONFIG = '[[upstream]]\nname = "llama"\nurls = ["{url}"]\nno_store = "ignore"\n'

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no llama.cpp here: scripts/test-llamacpp builds it")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    maker = pathlib.Path(__file__).with_name("tiny_gguf.py")
    subprocess.run([str(PYTHON), str(maker), str(folder / "tiny.gguf")], check=True)
    port = rig.free_port()
    command = [str(PYTHON), "-m", "llama_cpp.server", "--model", str(folder / "tiny.gguf")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "512"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def serves() -> bool:
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        try:
            return httpx2.get(f"http://127.0.0.1:{port}/v1/models", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    rig.eventually(serves, within=60, what="llama.cpp's server")
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=20)


@pytest.fixture(scope="module")
def front(llama, tmp_path_factory):
    proxy = rig.Reprise("", tmp_path_factory.mktemp("front"), config=CONFIG.format(url=llama))
    yield proxy
    proxy.stop()


class Chat:
    """One conversation whose answer ends by itself, for what is cut off at a limit is not kept, and is
    ASCII: llama.cpp's own stream loses a character whose bytes come in two tokens."""

    def __init__(self, url: str, system: str) -> None:
        self.system, self.seed = system, 0
        for self.seed in range(1, 100):
            text, finish = self.whole(url, QUESTION)[0]
            if finish == "stop" and text.strip() and text.isascii():
                return
        raise AssertionError("no seed ends by itself")

    def create(self, url: str, question: str, **more):
        messages = [{"role": "system", "content": self.system}, {"role": "user", "content": question}]
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-llama", max_retries=0)
        raw = client.chat.completions.with_raw_response.create(
            model="tiny", messages=messages, seed=self.seed, max_tokens=200, **more
        )
        return raw.parse(), raw.headers

    def whole(self, url: str, question: str):
        answer, headers = self.create(url, question)
        choice = answer.choices[0]
        return (choice.message.content, choice.finish_reason), answer.model_dump(), headers

    def stream(self, url: str, question: str):
        events, headers = self.create(url, question, stream=True)
        chunks = list(events)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        return (text, chunks[-1].choices[0].finish_reason), [one.model_dump() for one in chunks], headers


@pytest.mark.parametrize("first", ["whole", "stream"])
def test_chat(llama, front, nonce, first):
    chat = Chat(llama, nonce)
    ask, other = (chat.whole, chat.stream) if first == "whole" else (chat.stream, chat.whole)
    journey = dialect.Journey(front, None)
    before = journey.written()
    expected = ask(llama, QUESTION)[0]
    missed = ask(front.url, QUESTION)
    assert missed[0] == expected == other(llama, QUESTION)[0]
    assert contract.verdict(missed[2]).outcome == "miss"
    rig.eventually(lambda: journey.written() > before, what="storing")
    for question, outcome in ((QUESTION, "hit_exact"), (PARAPHRASE, "hit_semantic")):
        hit = ask(front.url, question)
        assert (hit[:2], contract.verdict(hit[2]).outcome) == (missed[:2], outcome)
        across = other(front.url, question)
        assert (across[0], contract.verdict(across[2]).outcome) == (expected, outcome)


def test_what_its_limit_cut_off_is_not_kept(llama, front, nonce):
    client = openai.OpenAI(base_url=f"{front.url}/v1", api_key="sk-llama", max_retries=0)
    for _ in range(2):
        raw = client.chat.completions.with_raw_response.create(
            model="tiny", messages=[{"role": "user", "content": f"Hello {nonce}"}], max_tokens=1, seed=1
        )
        assert raw.parse().choices[0].finish_reason == "length"
        assert contract.verdict(raw.headers).outcome == "miss"


def test_its_errors_are_its_own(llama, front):
    def failure(url):
        with pytest.raises(openai.APIStatusError) as raised:
            messages = [{"role": "user", "content": "too long " * 2000}]
            openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0).chat.completions.create(
                model="tiny", messages=messages
            )
        return raised.value.status_code, raised.value.body

    assert failure(front.url) == failure(llama)
