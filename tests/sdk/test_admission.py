"""Only a complete, clean answer is stored."""

import json

import httpx2
import pytest

import answers
from conftest import Way

PATH = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-one"}
MARKERS = [
    "[[fail:500]]", "[[fail:503]]", "[[fail:429]]", "[[fail:400]]", "[[cut:0]]", "[[cut:5]]",
    "[[sse-error:0]]", "[[sse-error:5]]", "[[length]]", "[[filter]]", "[[empty]]", "[[garbage]]",
    "[[no-store]]",
]


def fetch(way: Way, body: dict) -> tuple[int, bytes, bool]:
    """Status, what came of the body, and whether it came to its proper end."""
    got = b""
    try:
        with way.raw() as raw, raw.stream("POST", PATH, json=body, headers=KEY) as response:
            for piece in response.iter_raw():
                got += piece
            return response.status_code, got, True
    except httpx2.TransportError:
        return 0, got, False


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("marker", MARKERS)
def test_what_went_wrong_is_passed_on_and_never_stored(via, direct, cached, sim, ask, marker, stream):
    body = ask(f"Tell me something {marker}", stream=stream)
    expected = fetch(direct, body)
    sim.reset()
    for call in (1, 2):
        status, got, complete = fetch(via, body)
        if expected[2]:
            assert (status, complete) == (expected[0], True)
            assert anonymous(got, stream) == anonymous(expected[1], stream)
        else:
            # A break before the head may become a 502; one after it has to be seen as a break.
            assert not complete or status == 502
            assert anonymous(got, stream) == anonymous(expected[1], stream) or status == 502
        assert sim.calls() == call, "the second time has to be asked again"
        assert cached.lookup(body).status_code == 504


def anonymous(body: bytes, stream: bool) -> list:
    """The answer without id and created, event by event; bytes that are not JSON as they are."""
    def one(text: str):
        try:
            value = json.loads(text)
        except ValueError:
            return text
        return answers.drop_identity(value) if isinstance(value, dict) else value

    text = body.decode()
    return [one(part.removeprefix("data: ")) for part in (text.split("\n\n") if stream else [text])]


def test_a_stream_without_done_is_passed_on_and_never_stored(via: Way, cached, sim, ask):
    body = ask("Tell me something [[nodone]]", stream=True)
    sim.reset()
    for call in (1, 2):
        _, got, complete = fetch(via, body)
        assert complete and answers.events(got)[-1] != "[DONE]"
        assert sim.calls() == call
    assert cached.lookup(body).status_code == 504


def test_a_refused_credential_is_not_remembered(via: Way, sim, ask):
    sim.reset()
    with via.raw() as raw:
        for call in (1, 2):
            headers = {"authorization": "Bearer sim-invalid"}
            assert raw.post(PATH, json=ask("Hello"), headers=headers).status_code == 401
            assert sim.calls() == call


def test_half_an_answer_never_hits_by_meaning(via: Way, cached, ask):
    question = "How do I reset my online banking password?"
    for marker in ("[[length]]", "[[filter]]", "[[cut:5]]"):
        fetch(via, ask(question, system=marker, stream=True))
        paraphrase = ask(question.replace("do I", "can I"), system=marker)
        assert cached.lookup(paraphrase).status_code == 504
