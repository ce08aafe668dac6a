"""What no dialect can read: to the last byte the upstream's affair, each time, and counted by reason.
And answers with events that no dialect knows: they pass unaltered, in whatever pieces they come.

The origin here says what the test tells it and remembers the bytes that it got."""

from __future__ import annotations

import http.server
import json
import re
import threading

import httpx2
import pytest

import rig

USER = {"role": "user", "content": "Hello"}
PARTS = {"role": "user", "parts": [{"text": "Hello"}]}
BLOCKS = {"role": "user", "content": [{"text": "Hello"}]}

#: Path, a request that can be read, and the member in which it holds its conversation.
DIALECTS = {
    "openai": ("/v1/chat/completions", {"model": "m", "messages": [USER]}, "messages"),
    "openai_responses": ("/v1/responses", {"model": "m", "input": [USER]}, "input"),
    "openai_completions": ("/v1/completions", {"model": "m", "prompt": "Hello"}, "prompt"),
    "anthropic": ("/v1/messages", {"model": "m", "max_tokens": 9, "messages": [USER]}, "messages"),
    "gemini": ("/v1beta/models/m:generateContent", {"contents": [PARTS]}, "contents"),
    "ollama_chat": ("/api/chat", {"model": "m", "messages": [USER]}, "messages"),
    "ollama_generate": ("/api/generate", {"model": "m", "prompt": "Hello"}, "prompt"),
    "cohere": ("/v2/chat", {"model": "m", "messages": [USER]}, "messages"),
    "tgi": ("/generate", {"inputs": "Hello"}, "inputs"),
    "llamacpp": ("/completion", {"prompt": "Hello"}, "prompt"),
    "bedrock": ("/model/m/converse", {"messages": [BLOCKS]}, "messages"),
    "kserve_infer": (
        "/v2/models/m/infer",
        {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1], "data": [1.0]}]}, "inputs",
    ),
    "triton_generate": ("/v2/models/m/generate", {"text_input": "Hello"}, "text_input"),
}

#: Whatever the API: no JSON, no object, said twice, not exactly representable.
NOWHERE = {
    "empty": b"", "cut": b'{"a":', "list": b"[1]", "number": b"7", "null": b"null", "text": b'"x"',
    "behind": b"{} {}", "latin": b'{"a":"\xe9"}', "surrogate": b'{"a":"\\ud800"}', "twice": b'{"a":1,"a":2}',
    "bom": b"\xef\xbb\xbf{}",
}


class Origin(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.kind, self.pieces = "application/json", [b'{"error":"\xf0\x9f\x99\x82 no"}\n']
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                origin.got.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-type", origin.kind)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for piece in [*origin.pieces, b""]:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def origin():
    server = Origin()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def front(origin, tmp_path_factory):
    url = f"http://127.0.0.1:{origin.server_port}"
    proxy = rig.Reprise(url, tmp_path_factory.mktemp("front"))
    yield proxy
    proxy.stop()


def post(front: rig.Reprise, path: str, body: bytes) -> httpx2.Response:
    headers = {"content-type": "application/json"}
    return httpx2.post(f"{front.url}{path}", content=body, headers=headers, trust_env=False, timeout=30)


def hostile(name: str) -> dict[str, bytes]:
    _, good, member = DIALECTS[name]
    without = {key: value for key, value in good.items() if key != member}
    bodies = NOWHERE | {"missing": without, "is_null": without | {member: None}, "is_number": without | {member: 7}}
    said = good[member]
    if isinstance(said, list) and "role" in said[0]:
        text = "parts" if "parts" in said[0] else "content"
        bodies |= {
            "none": without | {member: []},
            "no_object": without | {member: ["Hello", 7]},
            "role": without | {member: [said[0] | {"role": "wizard"}]},
            "role_number": without | {member: [said[0] | {"role": 7}]},
            "content_number": without | {member: [said[0] | {text: 7}]},
        }
    if name == "triton_generate":
        # A model's inputs are what its operator says: none of them must be a text.
        bodies = NOWHERE
    return {name: body if isinstance(body, bytes) else json.dumps(body).encode() for name, body in bodies.items()}


CASES = [(name, kind) for name in DIALECTS for kind in hostile(name)]


@pytest.mark.parametrize(("name", "kind"), CASES, ids=["-".join(case) for case in CASES])
def test_what_cannot_be_read_is_passed_on_unaltered(front, origin, name, kind):
    path, body = DIALECTS[name][0], hostile(name)[kind]
    origin.kind, origin.pieces = "application/json", [b'{"what":', b'"\xf0\x9f', b'\x99\x82"}\n']
    for _ in range(2):
        asked = len(origin.got)
        answer = post(front, path, body)
        assert origin.got[asked:] == [body], "asked once, with these very bytes"
        assert answer.content == b"".join(origin.pieces)
        assert (answer.headers["x-cache"], answer.status_code) == ("BYPASS", 200)
        assert re.search("detail=(unreadable_request|stateful)", answer.headers["cache-status"])


def test_it_is_counted_by_reason(front, origin):
    def counted() -> int:
        found = re.search(r'reprise_bypass_total\{reason="unreadable_request"\} (\d+)', front.admin.get("/metrics").text)
        return int(found[1])

    before = counted()
    for path, _, _ in DIALECTS.values():
        post(front, path, b"[]")
    rig.eventually(lambda: counted() == before + len(DIALECTS), what="counting")


def sse(*events: object, kind: str = "") -> bytes:
    lead = f"event: {kind}\n" if kind else ""
    return "".join(f"{lead}data: {json.dumps(event)}\n\n" for event in events).encode()


ODD = {
    "openai": sse({"choices": "none"}, {"object": "chat.completion.dream"}) + b"data: [DONE]\n\n",
    "openai_responses": sse({"type": "response.dream"}, kind="response.dream"),
    "openai_completions": sse({"choices": [{"text": 7}]}) + b"data: [DONE]\n\n",
    "anthropic": sse({"type": "dream"}, kind="dream") + sse({"type": "message_stop"}, kind="message_stop"),
    "ollama_chat": b'{"dream":1}\n{"done":"perhaps"}\n',
    "ollama_generate": b'{"dream":1}\nno json\n',
    "cohere": sse({"type": "dream"}, kind="dream"),
    "llamacpp": sse({"dream": True}),
}


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("name", ODD)
def test_events_that_nobody_knows_pass_unaltered_and_are_not_kept(front, origin, name, size):
    path, good, _ = DIALECTS[name]
    said = ODD[name]
    origin.kind = "application/x-ndjson" if "ollama" in name else "text/event-stream"
    origin.pieces = [said[at : at + size] for at in range(0, len(said), size)]
    body = json.dumps(good | {"stream": True, "seed": size}).encode()
    for _ in range(2):
        asked = len(origin.got)
        answer = post(front, path, body)
        assert answer.content == said
        assert origin.got[asked:] == [body]
        assert answer.headers["x-cache"] == "MISS"
