"""A real model under ONNX Runtime behind a small server of its own (onnx_server.py), asked by the
official KServe client and by plain HTTP: vectors, classes, and an API that configuration describes."""

import pathlib
import subprocess
import sys

import httpx2
import numpy as np
import pytest
import tokenizers
import tritonclient.http

import dialect
import rig
from dialect import PARAPHRASE, QUESTION

SERVER = pathlib.Path(__file__).with_name("onnx_server.py")
CONFIG = """
[cache]
text_inputs = ["text"]

[dialect.intents]
paths = ["/classify"]
prompt = "/text"
answer = "/label"
error = "/error"

[[upstream]]
name = "onnx"
urls = ["{url}"]
dialect = "intents"
"""


@pytest.fixture(scope="module")
def onnx():
    command = [sys.executable, str(SERVER)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    url = process.stdout.readline().strip()
    assert url.startswith("http://"), "the server did not start"
    yield url
    process.stdin.close()
    process.wait(timeout=20)


@pytest.fixture(scope="module")
def front(onnx, tmp_path_factory):
    proxy = rig.Reprise("", tmp_path_factory.mktemp("onnx"), config=CONFIG.format(url=onnx))
    yield proxy
    proxy.stop()


class Walk:
    """Counts how often the model ran."""

    def __init__(self, front: rig.Reprise, onnx: str) -> None:
        self.front, self.onnx = front, onnx
        self.journey = dialect.Journey(front, None)

    def calls(self) -> int:
        return httpx2.get(f"{self.onnx}/calls", trust_env=False).json()

    def missed(self, ask, question):
        before, calls = self.journey.written(), self.calls()
        told = ask(self.front.url, question)
        assert self.calls() == calls + 1
        rig.eventually(lambda: self.journey.written() > before, what="storing")
        return told

    def hit(self, ask, question):
        calls = self.calls()
        told = ask(self.front.url, question)
        assert self.calls() == calls, "the model did not run"
        return told


@pytest.fixture
def walk(front, onnx):
    return Walk(front, onnx)


def infer(url, model, tensors, outputs):
    with tritonclient.http.InferenceServerClient(url.removeprefix("http://")) as client:
        inputs = []
        for name, kind, values in tensors:
            one = tritonclient.http.InferInput(name, list(values.shape), kind)
            one.set_data_from_numpy(values, binary_data=False)
            inputs.append(one)
        wanted = [tritonclient.http.InferRequestedOutput(name, binary_data=False) for name in outputs]
        answer = client.infer(model, inputs, outputs=wanted)
        return [answer.as_numpy(name).tolist() for name in outputs]


def test_vectors_of_token_numbers_are_repeated_exactly(walk, onnx):
    tokenizer = tokenizers.Tokenizer.from_file(str(rig.ROOT / "assets/all-MiniLM-L6-v2/tokenizer.json"))
    tokenizer.no_padding()

    def ask(url, text):
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        tensors = [("input_ids", "INT64", ids), ("attention_mask", "INT64", np.ones_like(ids))]
        return infer(url, "minilm", tensors, ["sentence"])

    [[vector]] = expected = ask(onnx, QUESTION)
    assert len(vector) == 384 and abs(np.linalg.norm(vector) - 1) < 1e-5
    assert walk.missed(ask, QUESTION) == expected
    assert walk.hit(ask, QUESTION) == expected
    assert walk.missed(ask, PARAPHRASE) == ask(onnx, PARAPHRASE) != expected, "another input, another vector"


def test_a_classifier_is_known_by_meaning(walk, onnx):
    def ask(url, text):
        asked = np.array([text.encode()], dtype=object)
        return infer(url, "intents", [("text", "BYTES", asked)], ["label", "score"])

    expected = ask(onnx, QUESTION)
    assert expected[0] in (["password"], [b"password"])
    assert walk.missed(ask, QUESTION) == expected
    assert walk.hit(ask, QUESTION) == expected
    assert walk.hit(ask, PARAPHRASE) == expected
    assert walk.missed(ask, "My card was stolen") == ask(onnx, "My card was stolen")


def test_an_api_of_its_own_is_eight_lines_of_configuration(walk, onnx):
    def ask(url, text):
        answer = httpx2.post(f"{url}/classify", json={"text": text}, trust_env=False)
        return answer.raise_for_status().content

    expected = ask(onnx, QUESTION)
    assert walk.missed(ask, QUESTION) == expected
    assert walk.hit(ask, QUESTION) == expected
    assert walk.hit(ask, PARAPHRASE) == expected


def test_its_errors_are_its_own(walk, onnx):
    for path, body in [("/classify", {}), ("/v2/models/other/infer", {"inputs": []})]:
        told = [httpx2.post(f"{url}{path}", json=body, trust_env=False) for url in (onnx, walk.front.url)]
        assert told[0].status_code == told[1].status_code >= 400
        assert told[0].content == told[1].content
