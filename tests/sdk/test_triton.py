"""A real Triton (PyPI's nvidia-pytriton) behind the proxy, asked by its official clients.

Its models say how often they were asked, so a repeat that reached them is seen.
"""

import os
import pathlib
import queue
import subprocess

import httpx2
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

import dialect
import rig
from dialect import PARAPHRASE, QUESTION

PYTHON = rig.ROOT / os.environ.get("REPRISE_TRITON_PYTHON", ".tools/triton-venv/bin/python")
MODELS = pathlib.Path(__file__).with_name("triton_models.py")

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no Triton here: scripts/test-sdk brings it")

CONFIG = """
[cache]
text_inputs = ["text_input"]

[[upstream]]
name = "triton"
urls = ["http://127.0.0.1:{http}"]

[[upstream]]
name = "triton-grpc"
urls = ["http://127.0.0.1:{grpc}"]
http2 = true
routes = ["/inference.GRPCInferenceService"]
"""


@pytest.fixture(scope="module")
def triton():
    """The ports of a Triton that serves."""
    ports = {name: rig.free_port() for name in ("http", "grpc", "metrics")}
    command = [str(PYTHON), str(MODELS), *map(str, ports.values())]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, **quiet)

    def serves() -> bool:
        assert process.poll() is None, f"Triton exited with {process.returncode}"
        try:
            # The last one that is bound.
            path = f"http://127.0.0.1:{ports['http']}/v2/models/spell/ready"
            return httpx2.get(path, trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    rig.eventually(serves, within=120, what="Triton")
    yield ports
    process.stdin.close()
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture(scope="module")
def front(triton, tmp_path_factory):
    proxy = rig.Reprise("", tmp_path_factory.mktemp("triton"), config=CONFIG.format(**triton))
    yield proxy
    proxy.stop()


def address(url: str) -> str:
    return url.removeprefix("http://")


def stored(front, ask, question):
    """Asks for the first time and waits until the answer is stored."""
    journey = dialect.Journey(front, None)
    before = journey.written()
    told = ask(question)
    rig.eventually(lambda: journey.written() > before, what="storing")
    return told


def infer(client, module, model, name, values, kind, output):
    asked = module.InferInput(name, list(values.shape), kind)
    asked.set_data_from_numpy(values)
    return client.infer(model, [asked]).as_numpy(output)


def test_a_texts_paraphrase_gets_its_answer(front, triton):
    def ask(question, url=front.url):
        with tritonclient.http.InferenceServerClient(address(url)) as client:
            text = np.array([[question.encode()]], dtype=object)
            told = infer(client, tritonclient.http, "echo", "text_input", text, "BYTES", "text_output")
        return told[0][0].decode()

    told = stored(front, ask, QUESTION)
    direct = ask(QUESTION, f"http://127.0.0.1:{triton['http']}")
    assert told.split("#")[0] == direct.split("#")[0] == QUESTION.upper() + " "
    assert told != direct, "the model counts"
    assert ask(QUESTION) == told
    assert ask(PARAPHRASE) == told
    assert ask("Which currencies can I hold?").startswith("WHICH CURRENCIES")


@pytest.mark.parametrize("binary", [True, False])
def test_numbers_are_known_by_their_content(front, binary):
    def ask(numbers):
        with tritonclient.http.InferenceServerClient(address(front.url)) as client:
            values = np.array([numbers], dtype=np.float32)
            asked = tritonclient.http.InferInput("X", list(values.shape), "FP32")
            asked.set_data_from_numpy(values, binary_data=binary)
            wanted = tritonclient.http.InferRequestedOutput("Y", binary_data=binary)
            return client.infer("linear", [asked], outputs=[wanted]).as_numpy("Y")[0].tolist()

    numbers = [1.5, -2.0, 1e30 if binary else 3.0]
    first = ask(numbers)
    assert ask(numbers) == first
    assert ask(numbers[::-1]) != first
    assert ask(numbers[:2]) != first[:2], "another shape is another request"


def test_generate_in_both_shapes(front):
    def whole(question):
        answer = httpx2.post(
            f"{front.url}/v2/models/echo/generate", json={"text_input": question}, trust_env=False
        )
        return answer.raise_for_status().json()["text_output"], answer.content

    def stream(question):
        answer = httpx2.post(
            f"{front.url}/v2/models/echo/generate_stream", json={"text_input": question}, trust_env=False
        )
        return answer.raise_for_status().content

    told = stored(front, whole, "Can I pay with my phone at a shop?")
    assert whole("Can I pay with my phone at a shop?") == told
    [event] = stream("Can I pay with my phone at a shop?").split(b"\n\n")[:-1]
    assert event == b"data: " + told[1].strip()


def test_a_decoupled_stream_is_replayed_byte_for_byte(front):
    def ask():
        answer = httpx2.post(
            f"{front.url}/v2/models/spell/generate_stream", json={"text_input": "hey"}, trust_env=False
        )
        assert answer.headers["content-type"].startswith("text/event-stream")
        return answer.raise_for_status().content

    first = ask()
    assert first.count(b"data: ") >= len("hey#1")
    assert ask() == first


def test_errors_are_tritons_own(front):
    answer = httpx2.post(f"{front.url}/v2/models/nobody/infer", json={"inputs": []}, trust_env=False)
    assert answer.status_code == 404 and "nobody" in answer.json()["error"]
    with tritonclient.http.InferenceServerClient(address(front.url)) as client:
        assert client.is_server_live() and client.is_model_ready("echo")
        text = np.array([["too", "many"]], dtype=object)
        with pytest.raises(tritonclient.http.InferenceServerException):
            infer(client, tritonclient.http, "echo", "text_input", text, "BYTES", "text_output")


def grpc_at(address: str):
    """One question to a model of texts, or one of numbers, by gRPC."""

    def ask(asked):
        with tritonclient.grpc.InferenceServerClient(address) as client:
            if isinstance(asked, str):
                text = np.array([[asked.encode()]], dtype=object)
                told = infer(client, tritonclient.grpc, "echo", "text_input", text, "BYTES", "text_output")
                return told[0][0].decode()
            values = np.array([asked], dtype=np.float32)
            return infer(client, tritonclient.grpc, "linear", "X", values, "FP32", "Y")[0].tolist()

    return ask


def test_grpc_knows_a_texts_paraphrase(front, triton):
    via, direct = grpc_at(address(front.url)), grpc_at(f"127.0.0.1:{triton['grpc']}")
    told = stored(front, via, QUESTION)
    assert told.split("#")[0] == direct(QUESTION).split("#")[0] == QUESTION.upper() + " "
    assert via(QUESTION) == told != direct(QUESTION), "the model counts"
    assert via(PARAPHRASE) == told
    assert via("Which currencies can I hold?").startswith("WHICH CURRENCIES")
    outcomes = front.admin.get("/metrics").text
    for outcome in ("miss", "hit_exact", "hit_semantic"):
        assert f'dialect="kserve_grpc",outcome="{outcome}"' in outcomes


def test_grpc_knows_numbers_by_their_content(front):
    ask = grpc_at(address(front.url))
    first = ask([7.5, -2.0, 1e30])
    assert ask([7.5, -2.0, 1e30]) == first
    assert ask([-2.0, 7.5, 1e30]) != first
    assert ask([7.5, -2.0]) != first[:2], "another shape is another request"


def test_grpc_answers_are_whole_messages_with_their_parameters(front, triton):
    """What the client reads beside the numbers: model, version, id, shape."""

    def ask(url, identity):
        with tritonclient.grpc.InferenceServerClient(url) as client:
            asked = tritonclient.grpc.InferInput("X", [1, 2], "FP32")
            asked.set_data_from_numpy(np.array([[1, 2]], dtype=np.float32))
            wanted = [tritonclient.grpc.InferRequestedOutput("Y")]
            answer = client.infer("linear", [asked], outputs=wanted, request_id=identity, timeout=30_000_000)
            said = answer.get_response(as_json=True)
            said.pop("raw_output_contents")
            return said, answer.as_numpy("Y").tolist()

    first = ask(address(front.url), "seven")
    assert ask(address(front.url), "seven") == first
    assert first[0] == ask(f"127.0.0.1:{triton['grpc']}", "seven")[0]
    # The id is part of the answer, and so of the key.
    assert ask(address(front.url), "eight")[0]["id"] == "eight"


def test_grpc_errors_are_tritons_own(front, triton):
    def failure(url):
        with tritonclient.grpc.InferenceServerClient(url) as client:
            assert client.is_server_live()
            with pytest.raises(tritonclient.grpc.InferenceServerException) as raised:
                values = np.array([[1, 2]], dtype=np.float32)
                infer(client, tritonclient.grpc, "nobody", "X", values, "FP32", "Y")
            return raised.value.status(), raised.value.message()

    told = failure(address(front.url))
    assert "nobody" in told[1] and told[0].startswith("StatusCode.")
    assert told == failure(f"127.0.0.1:{triton['grpc']}")
    assert failure(address(front.url)) == told, "and it is not kept"


def test_requests_of_a_grpc_stream_are_answered_one_by_one(front):
    """The decoupled model's answers, letter by letter, and the repeat's under its own name."""
    answers: queue.Queue = queue.Queue()

    def spelt(text: str, name: str) -> str:
        asked = tritonclient.grpc.InferInput("text_input", [1, 1], "BYTES")
        asked.set_data_from_numpy(np.array([[text.encode()]], dtype=object))
        client.async_stream_infer("spell", [asked], request_id=name, enable_empty_final_response=True)
        said = ""
        while True:
            result, error = answers.get(timeout=30)
            assert error is None, error
            response = result.get_response()
            assert response.id == name
            if response.parameters["triton_final_response"].bool_param:
                return said
            said += result.as_numpy("text_output").flatten()[0].decode()

    with tritonclient.grpc.InferenceServerClient(address(front.url)) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        first = {text: spelt(text, f"first {text}") for text in ("hey", "you")}
        assert all(said.startswith(f"{text}#") for text, said in first.items())
        assert first["hey"][4:] != first["you"][4:], "each was counted"
        for text, said in first.items():
            assert spelt(text, f"again {text}") == said, "the model was not asked"
        client.stop_stream()


def test_a_stream_of_a_model_with_one_answer_each(front):
    """A hundred numbers over one call, each answered once and in order; then all of them again."""
    answers: queue.Queue = queue.Queue()

    def doubled(client) -> list[tuple[str, float]]:
        for number in range(100):
            asked = tritonclient.grpc.InferInput("X", [1, 1], "FP32")
            asked.set_data_from_numpy(np.array([[number]], dtype=np.float32))
            client.async_stream_infer("linear", [asked], request_id=str(number))
        told = [answers.get(timeout=30) for _ in range(100)]
        assert all(error is None for _, error in told)
        return [(result.get_response().id, float(result.as_numpy("Y")[0][0])) for result, _ in told]

    with tritonclient.grpc.InferenceServerClient(address(front.url)) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        first = doubled(client)
        assert [name for name, _ in first] == [str(number) for number in range(100)]
        assert doubled(client) == first, "the model counts, so it was not asked again"
        client.stop_stream()


def test_a_failure_in_a_grpc_stream_is_tritons_own(front, triton):
    def failure(url):
        answers: queue.Queue = queue.Queue()
        with tritonclient.grpc.InferenceServerClient(url) as client:
            client.start_stream(lambda result, error: answers.put((result, error)))
            asked = tritonclient.grpc.InferInput("X", [1, 1], "FP32")
            asked.set_data_from_numpy(np.array([[1]], dtype=np.float32))
            client.async_stream_infer("nobody", [asked])
            result, error = answers.get(timeout=30)
            client.stop_stream()
        assert result is None
        return error.status(), error.message()

    told = failure(f"127.0.0.1:{triton['grpc']}")
    assert "nobody" in told[1]
    assert failure(address(front.url)) == failure(address(front.url)) == told
