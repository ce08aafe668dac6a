"""All that is not a cacheable call passes through, streaming, byte for byte."""

import os
import socket
import ssl
import threading

import httpx2
import pytest

import contract
from conftest import Way
from test_parity import QUESTION

PATH = "/v1/chat/completions"


def test_models_embeddings_and_completions(each_way: Way, direct: Way):
    def everything(way: Way) -> list:
        client = way.client()
        return [
            client.models.list().model_dump(),
            client.embeddings.create(model="sim", input=["a", "b"]).model_dump(),
            client.completions.create(model="sim", prompt="Hello").choices[0].text,
            "".join(
                part.choices[0].text
                for part in client.completions.create(model="sim", prompt="Hi", stream=True)
            ),
        ]

    assert everything(each_way) == everything(direct)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_bytes_come_back_as_they_went(each_way: Way, method):
    body = os.urandom(3 << 20)
    with each_way.raw() as raw:
        answer = raw.request(method, "/echo", content=body, headers={"content-type": "a/b"})
    assert answer.content == body
    assert answer.headers["content-type"] == "a/b"


def test_unknown_paths_get_the_upstreams_answer(each_way: Way, direct: Way):
    for method, path in (("GET", "/nowhere"), ("POST", "/v1/nothing?x=1&y=%20"), ("GET", PATH)):
        with each_way.raw() as proxied, direct.raw() as plain:
            got, expected = proxied.request(method, path), plain.request(method, path)
        assert (got.status_code, got.content) == (expected.status_code, expected.content)
        assert contract.verdict(got.headers).x_cache == "BYPASS"


def test_the_target_and_headers_arrive_as_sent(via: Way, sim):
    headers = [("x-one", "1"), ("x-two", "a"), ("x-two", "b"), ("accept", "*/*")]
    with via.raw() as raw:
        raw.get("/v1/models?a=1&b=%2F%20&a=2", headers=headers)
    last = sim.last_request()
    assert last["target"].endswith("/v1/models?a=1&b=%2F%20&a=2")
    assert [value for name, value in last["headers"] if name == "x-two"] == ["a", "b"]


def test_an_upload_flows_while_it_is_sent(via: Way):
    """The first half comes back before the second is sent: nothing waits for the whole body."""
    host, port = via.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        connection.sendall(b"5\r\nfirst\r\n")
        got = b""
        while b"first" not in got:
            piece = connection.recv(65536)
            assert piece, got
            got += piece
        connection.sendall(b"6\r\nsecond\r\n0\r\n\r\n")
        while b"0\r\n\r\n" not in got:
            piece = connection.recv(65536)
            assert piece, got
            got += piece
    assert b"second" in got


def test_tokens_flow_while_they_are_made(each_way: Way, ask):
    """A miss does not wait for its end: the first piece comes long before the last is made."""
    body = ask("Tell me [[stall:3,3s]]", stream=True)
    headers = {"authorization": "Bearer sk-one"}
    with each_way.raw() as raw, raw.stream("POST", PATH, json=body, headers=headers) as answer:
        got = b""
        for piece in answer.iter_raw():
            got += piece
            if got.count(b"data: ") >= 4:
                break
    assert b"[DONE]" not in got


def test_the_unix_socket_serves_too(proxy, ask):
    transport = httpx2.HTTPTransport(uds=str(proxy.unix))
    with httpx2.Client(transport=transport, base_url="http://reprise") as client:
        answer = client.post(PATH, json=ask(QUESTION))
    assert answer.status_code == 200
    assert contract.verdict(answer.headers).outcome == "miss"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_versions_and_alpn(proxy, version):
    host, port = proxy.https_url.removeprefix("https://").split(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    for offered, chosen in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)):
        if offered:
            context.set_alpn_protocols(offered)
        else:
            context = ssl._create_unverified_context()
        with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname=host) as secure:
                assert secure.selected_alpn_protocol() == chosen


def test_clear_text_on_the_tls_port_does_not_hang(proxy):
    port = int(proxy.https_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        while connection.recv(4096):
            pass


def test_websocket_upgrades_are_not_let_through(via: Way, sim):
    host, port = via.url.removeprefix("http://").split(":")
    request = (
        b"GET /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        status = int(connection.recv(4096).split(b" ")[1])
    assert status != 101


def test_many_kinds_at_once_do_not_mix(via: Way, ask):
    """Misses, hits, echoes and refusals side by side: everybody gets their own."""
    failures: list[str] = []

    def work(worker: int) -> None:
        key = f"sk-{worker}"
        headers = {"authorization": f"Bearer {key}"}
        with via.raw() as raw:
            for index in range(25):
                body = ask(f"Question {index % 5}", stream=index % 3 == 0)
                said = contract.stamps(raw.post(PATH, json=body, headers=headers).text)
                if said != [contract.stamp(body, f"Bearer {key}")]:
                    failures.append(f"{key} got {said}")
                sent = os.urandom(1000)
                if raw.post("/echo", content=sent, headers=headers).content != sent:
                    failures.append(f"{key} got another's echo")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:5]
