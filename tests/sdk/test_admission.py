"""Only a complete, clean answer is stored."""

import json
import re

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
    status, content, complete = fetch(direct, body)
    sim.reset()
    for call in (1, 2):
        got = fetch(via, body)
        if stream and marker == "[[sse-error:0]]":
            # A stream that begins with an error is one: it gets an error's status, and the server's words.
            assert got[0] == 502 and got[2]
            assert json.loads(got[1])["error"]
        elif complete:
            assert (got[0], got[2]) == (status, True)
            assert anonymous(got[1]) == anonymous(content)
        else:
            assert_broken(got, content)
        assert sim.calls() == call, "the second time has to be asked again"
        assert cached.lookup(body).status_code == 504


def assert_broken(got: tuple[int, bytes, bool], content: bytes) -> None:
    """A break before the head may become a 502. One after it has to be seen as a break, after all
    that came; the proxy may say why in an error event, as its last."""
    status, body, complete = got
    if status == 502:
        assert json.loads(body)["error"]["code"]
        return
    assert not complete
    sent, arrived = anonymous(content), anonymous(body)
    assert arrived[:len(sent)] == sent
    for extra in arrived[len(sent):]:
        assert json.loads(extra)["error"]["code"] == "upstream_cut"


def anonymous(body: bytes) -> list[str]:
    """The events of a stream, or the one whole body, without what differs between two answers.
    By text: what is compared here may end in the middle."""
    text = re.sub(r'"id":"chatcmpl-[0-9a-f]+"|"created":\d+', "", body.decode(errors="replace"))
    return [part.removeprefix("data: ") for part in text.split("\n\n") if part]


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
