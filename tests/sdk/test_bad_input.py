"""Bad input gets what the upstream says, untouched and uncached; our own limits speak OpenAI."""

import gzip
import json
import socket

import pytest

import answers
import contract
import h2_reader
from conftest import Way

PATH = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-one", "content-type": "application/json"}
USER = '{"role":"user","content":"Hello"}'


def chat(**fields) -> bytes:
    return json.dumps({"model": "sim", "messages": [{"role": "user", "content": "Hi"}], **fields}).encode()


def nested(depth: int) -> bytes:
    return b'{"model":"sim","messages":[' + USER.encode() + b'],"x":' + b"[" * depth + b"]" * depth + b"}"


REFUSED = {
    "empty_body": b"",
    "malformed": b'{"model":"sim","messages":[',
    "trailing_garbage": chat() + b"}",
    "not_an_object": b'["model","sim"]',
    "a_number": b"42",
    "null": b"null",
    "no_messages": b'{"model":"sim"}',
    "no_model": b'{"messages":[' + USER.encode() + b"]}",
    "empty_messages": b'{"model":"sim","messages":[]}',
    "messages_string": chat(messages="Hello"),
    "messages_of_strings": chat(messages=["Hello"]),
    "model_number": chat(model=7),
    "temperature_string": chat(temperature="hot"),
    "temperature_huge": chat(temperature=99),
    "n_zero": chat(n=0),
    "n_float": chat(n=1.5),
    "stream_string": chat(stream="yes"),
    "stream_options_alone": chat(stream_options={"include_usage": True}),
    "tools_object": chat(tools={}),
    "unknown_role": chat(messages=[{"role": "wizard", "content": "Hi"}]),
    "no_role": chat(messages=[{"content": "Hi"}]),
    "no_content": chat(messages=[{"role": "user"}]),
    "null_content": chat(messages=[{"role": "user", "content": None}]),
    "content_number": chat(messages=[{"role": "user", "content": 5}]),
    "unknown_part": chat(messages=[{"role": "user", "content": [{"type": "smell"}]}]),
    "deep_200": nested(200),
    "deep_100000": nested(100_000),
    "invalid_utf8": chat().replace(b"Hi", b"H\xff\xfe"),
    "truncated_utf8": chat().replace(b"Hi", b"H\xe2\x82"),
    "lone_surrogate": chat().replace(b"Hi", b"\\ud800"),
    "bad_escape": chat().replace(b"Hi", b"\\x"),
    "raw_control": chat().replace(b"Hi", b"H\x01"),
    "nan": chat().replace(b'"model"', b'"top_p":NaN,"model"'),
    "infinite": chat().replace(b'"model"', b'"top_p":1e400,"model"'),
    "byte_order_mark": b"\xef\xbb\xbf" + chat(),
    "utf16": chat().decode().encode("utf-16"),
    "missing_model_name": chat(model="missing-model"),
}
ACCEPTED = {
    "deep_20": nested(20),
    "empty_content": chat(messages=[{"role": "user", "content": ""}]),
    "empty_parts": chat(messages=[{"role": "user", "content": []}]),
    "null_fields": chat(temperature=None, tools=None, stream=None, stop=None),
    "whitespace": b" \n\t" + chat() + b"\n ",
    "nul_in_text": chat(messages=[{"role": "user", "content": "a\u0000b"}]),
    "surrogate_pair": chat().replace(b"Hi", b"\\ud83d\\ude42"),
    "megabyte_of_text": chat(messages=[{"role": "user", "content": "word " * 200_000}]),
    "emoji_only": chat(messages=[{"role": "user", "content": "\U0001f642" * 50}]),
    "huge_integer": chat().replace(b'"model"', b'"vendor":123456789012345678901234567890,"model"'),
    "many_messages": chat(messages=[{"role": "user", "content": "Hi"}] * 2000),
    "assistant_without_content": chat(messages=[
        {"role": "user", "content": "Hi"}, {"role": "assistant"}, {"role": "user", "content": "So?"},
    ]),
}


def post(way: Way, body: bytes, headers: dict | None = None):
    with way.raw() as raw:
        return raw.post(PATH, content=body, headers=KEY | (headers or {}))


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_upstream_refuses_is_refused_in_its_words(each_way: Way, direct: Way, sim, name):
    expected = post(direct, REFUSED[name])
    assert 400 <= expected.status_code < 500, "the upstream refuses it"
    sim.reset()
    for call in (1, 2):
        got = post(each_way, REFUSED[name])
        assert (got.status_code, got.content) == (expected.status_code, expected.content)
        assert got.headers["content-type"] == expected.headers["content-type"]
        assert contract.verdict(got.headers).x_cache != "HIT"
        assert sim.calls() == call, "asked again: a refusal is not stored"


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_the_upstream_takes_is_answered_alike(via: Way, direct: Way, name):
    expected = post(direct, ACCEPTED[name])
    assert expected.status_code == 200, expected.text
    for _ in "miss", "hit":
        got = post(via, ACCEPTED[name])
        assert got.status_code == 200
        assert answers.drop_identity(got.json()) == answers.drop_identity(expected.json())


def test_a_key_said_twice_is_no_way_around_the_key(via: Way, sim):
    """Parsers differ on which of two equal keys counts; whatever the upstream takes, one reading
    must never be served the answer to the other."""
    head = b'{"model":"sim","messages":[{"role":"system","content":"duplicates"},'
    one, two = b'{"role":"user","content":"first"}]', b'{"role":"user","content":"second"}]'
    tail = b',"messages":[{"role":"user","content":"other"}]}'
    texts = []
    for variant in (head + one + b"}", head + one + tail, head + two + tail):
        answer = post(via, variant)
        assert answer.status_code == 200
        texts.append(answer.json()["choices"][0]["message"]["content"])
    assert "first" in texts[0] and "other" in texts[1] and "other" in texts[2]


def test_a_compressed_body_is_passed_on_as_it_is(via: Way, direct: Way):
    body = gzip.compress(chat(), mtime=0)
    headers = {"content-encoding": "gzip"}
    expected, got = post(direct, body, headers), post(via, body, headers)
    assert (got.status_code, got.content) == (expected.status_code, expected.content)


@pytest.mark.parametrize("length", ["content_length", "chunked"])
def test_64_megabytes_are_too_much_or_pass(each_way: Way, direct: Way, length):
    """413 in OpenAI's shape where it is our limit, or else what the upstream says."""
    body = chat(messages=[{"role": "user", "content": "x" * (64 << 20)}])

    def pieces():
        view = memoryview(body)
        for start in range(0, len(body), 1 << 20):
            yield bytes(view[start:start + (1 << 20)])

    if length == "content_length" and "http2" in each_way.name:
        pytest.skip("the client has no ear for an early answer; see the next test")
    with each_way.raw() as raw:
        content = body if length == "content_length" else pieces()
        got = raw.post(PATH, content=content, headers=KEY)
        assert raw.get("/v1/models").status_code == 200, "and the next request works"
    if got.status_code == 413:
        error = got.json()["error"]
        assert error["code"] == "body_too_large" and error["message"]
    else:
        assert got.status_code == post(direct, body).status_code


def test_an_early_refusal_arrives_by_http2(via: Way):
    """The refusal must not be lost in the reset of a request that nobody reads to its end."""
    reader = h2_reader.Reader(via.url)
    stream = reader.announce(PATH, 64 << 20, KEY)
    reader.fill_window(stream)
    reader.read({stream}, set(), within=30)
    assert reader.status[stream] == 413
    assert json.loads(reader.body[stream])["error"]["code"] == "body_too_large"
    reader.close()


def raw_answer(url: str, request: bytes, within: float = 20) -> bytes:
    """What comes back on a bare connection until it is closed."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=within) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_a_body_that_stops_coming_gets_408(start, sim):
    proxy = start(sim.url, settings={"limits.body_idle": "300ms"})
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n".encode()
    answer = raw_answer(proxy.url, head + b'{"model":')
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"] == "body_timeout"


def test_a_head_that_stops_coming_is_closed(start, sim):
    proxy = start(sim.url, settings={"limits.header_time": "300ms"})
    answer = raw_answer(proxy.url, f"POST {PATH} HTTP/1.1\r\nhost:".encode())
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("header", [
    b"x-big: " + b"a" * 200_000, b"\r\n".join(b"x-%d: y" % index for index in range(300)),
])
def test_too_much_head_gets_431(via: Way, header):
    request = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n".encode()
    answer = raw_answer(via.url, request + header + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 "), answer[:80]


@pytest.mark.parametrize("request_line", [
    b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n"
    b"content-length: 5\r\n\r\n12345",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
    b"garbage\r\n\r\n",
])
def test_requests_that_http_forbids_never_reach_the_upstream(via: Way, sim, request_line):
    sim.reset()
    host, port = via.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request_line)
        answer = connection.recv(65536)
    assert answer == b"" or 400 <= int(answer.split(b" ")[1]) < 600, answer[:80]
    assert sim.stats()["calls_total"] == 0


@pytest.mark.parametrize("order", [0, 1])
def test_two_framings_at_once_are_no_smuggling(via: Way, sim, order):
    """Chunked wins, the length goes no further, and what follows is not taken for a request."""
    sim.reset()
    framings = [b"content-length: 4\r\n", b"transfer-encoding: chunked\r\n"]
    head = b"POST /echo HTTP/1.1\r\nhost: a\r\n" + framings[order] + framings[1 - order]
    smuggled = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"
    answer = raw_answer(via.url, head + b"\r\n0\r\n\r\n" + smuggled)
    assert answer.count(b"HTTP/1.1 ") <= 1
    stats = sim.stats()
    assert "/v1/models" not in stats["calls"]
    if stats["calls_total"]:
        assert "content-length" not in dict(stats["last_request"]["headers"])
