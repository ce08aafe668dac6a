"""gRPC through the proxy, with the real grpcio on both sides: Triton and TGI speak it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from rig import Reprise, eventually

METHOD = "/inference.Echo/"
INFER = "/inference.GRPCInferenceService/ModelInfer"


class Echo(grpc.GenericRpcHandler):
    """Repeats what it gets, in each of the four shapes of a call."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = details.method.removeprefix(METHOD)
        return {
            "Once": grpc.unary_unary_rpc_method_handler(self.once),
            "Down": grpc.unary_stream_rpc_method_handler(self.down),
            "Up": grpc.stream_unary_rpc_method_handler(self.up),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
            "Refuse": grpc.unary_unary_rpc_method_handler(self.refuse),
            "Break": grpc.unary_stream_rpc_method_handler(self.breaks),
        }.get(name)

    def once(self, said: bytes, context: grpc.ServicerContext) -> bytes:
        given = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-first", given.get("x-asked", "")),))
        context.set_trailing_metadata((("x-last", "one"), ("x-last-bin", b"\x00\xff")))
        return said

    def down(self, said: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(20):
            yield said + str(number).encode()
        context.set_trailing_metadata((("x-count", "20"),))

    def up(self, said: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return b"+".join(said)

    def both(self, said: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for one in said:
            yield one.upper()

    def refuse(self, said: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no GPU is free: 100 %")

    def breaks(self, said: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"half"
        context.abort(grpc.StatusCode.INTERNAL, "lost")


@contextlib.contextmanager
def behind(
    start, handler: grpc.GenericRpcHandler, threads: int = 16, config: str = ""
) -> Iterator[tuple[grpc.Channel, Reprise]]:
    """A channel to a proxy in front of a server that answers so."""
    server = grpc.server(futures.ThreadPoolExecutor(threads), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    upstream = f'[[upstream]]\nname = "grpc"\nurls = ["http://127.0.0.1:{port}"]\nhttp2 = true\n'
    proxy: Reprise = start("", config=f"{config}\n{upstream}")
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(proxy.url.removeprefix("http://"), options) as channel:
        yield channel, proxy
    server.stop(None)


@pytest.fixture
def channel(start) -> Iterator[grpc.Channel]:
    with behind(start, Echo()) as (channel, _):
        yield channel


def test_one_answer_with_what_comes_before_and_behind_it(channel: grpc.Channel) -> None:
    answer, call = channel.unary_unary(f"{METHOD}Once").with_call(
        b"\x00hello\xff" * 1000, metadata=(("x-asked", "who"),), timeout=20
    )
    assert answer == b"\x00hello\xff" * 1000
    assert ("x-first", "who") in call.initial_metadata()
    trailers = dict(call.trailing_metadata())
    assert (trailers["x-last"], trailers["x-last-bin"]) == ("one", b"\x00\xff")
    assert call.code() == grpc.StatusCode.OK


def test_streams_down_and_up(channel: grpc.Channel) -> None:
    call = channel.unary_stream(f"{METHOD}Down")(b"n", timeout=20)
    assert list(call) == [f"n{number}".encode() for number in range(20)]
    assert dict(call.trailing_metadata())["x-count"] == "20"
    pieces = (str(number).encode() for number in range(100))
    answer = channel.stream_unary(f"{METHOD}Up")(pieces, timeout=20)
    assert answer == b"+".join(str(number).encode() for number in range(100))


def test_both_ways_at_once(channel: grpc.Channel) -> None:
    """Each word is said only after the answer to the one before: nothing is held back for more."""
    words: queue.Queue[bytes | None] = queue.Queue()
    call = channel.stream_stream(f"{METHOD}Both")(iter(words.get, None), timeout=20)
    for word in [b"one", b"two", b"x" * 200_000, b"three"]:
        words.put(word)
        assert next(call) == word.upper()
    words.put(None)
    assert list(call) == []
    assert call.code() == grpc.StatusCode.OK


def test_a_refusal_is_the_servers_own(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"{METHOD}Refuse")(b"x", timeout=20)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.details() == "no GPU is free: 100 %"
    with pytest.raises(grpc.RpcError) as unknown:
        channel.unary_unary(f"{METHOD}Unknown")(b"x", timeout=20)
    assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_failure_half_way_is_the_servers_own(channel: grpc.Channel) -> None:
    call = channel.unary_stream(f"{METHOD}Break")(b"x", timeout=20)
    assert next(call) == b"half"
    with pytest.raises(grpc.RpcError) as broken:
        next(call)
    assert broken.value.code() == grpc.StatusCode.INTERNAL
    assert broken.value.details() == "lost"


def test_a_client_that_gives_up_is_passed_on(channel: grpc.Channel) -> None:
    call = channel.stream_stream(f"{METHOD}Both")(iter([b"one"]), timeout=20)
    assert next(call) == b"ONE"
    call.cancel()
    assert channel.unary_unary(f"{METHOD}Once")(b"x", timeout=20) == b"x"


def test_a_fault_of_ours_is_a_status_of_grpc(start) -> None:
    from rig import free_port

    dead = f'[[upstream]]\nname = "dead"\nurls = ["http://127.0.0.1:{free_port()}"]\nhttp2 = true\n'
    proxy: Reprise = start("", config=dead)
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(proxy.url.removeprefix("http://"), options) as channel:
        with pytest.raises(grpc.RpcError) as failed:
            channel.unary_unary(f"{METHOD}Once")(b"x", timeout=20)
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "upstream `dead`" in failed.value.details()


# === ModelInfer, which is cached ===


def field(number: int, content: bytes) -> bytes:
    """A delimited field of protobuf, shorter than 128 bytes."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def asks(model: bytes, content: bytes = b"\0\0\x80?") -> bytes:
    tensor = field(1, b"X") + field(2, b"FP32") + field(3, b"\x01")
    return field(1, model) + field(5, tensor) + field(7, content)


#: An answer with one tensor.
TOLD = field(1, b"m") + field(5, field(1, b"Y") + field(2, b"FP32") + field(3, b"\x01")) + field(6, b"\0\0\0@")


class Model(grpc.GenericRpcHandler):
    """Answers ModelInfer as the model's name says."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.given: dict[str, str] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return grpc.unary_unary_rpc_method_handler(self.infer) if details.method == INFER else None

    def infer(self, said: bytes, context: grpc.ServicerContext) -> bytes:
        self.asked.append(said)
        self.given = dict(context.invocation_metadata())
        if b"refuse" in said:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such model: 100 %")
        context.set_trailing_metadata((("x-last", "one"),))
        if b"late" in said:
            # The message and then a status that says that it is worth nothing.
            context.set_code(grpc.StatusCode.DATA_LOSS)
            context.set_details("lost")
        return b"\xff" if b"noise" in said else TOLD


@pytest.fixture
def model(start) -> Iterator[tuple[Model, grpc.Channel, Reprise]]:
    handler = Model()
    with behind(start, handler) as (channel, proxy):
        yield handler, channel, proxy


def infer(channel: grpc.Channel, request: bytes, **more) -> tuple[bytes, dict, dict]:
    answer, call = channel.unary_unary(INFER).with_call(request, timeout=20, **more)
    return answer, dict(call.initial_metadata()), dict(call.trailing_metadata())


def test_a_repeat_is_answered_without_the_model(model) -> None:
    handler, channel, _ = model
    answer, first, trailers = infer(channel, asks(b"m"))
    assert (answer, first["x-cache"], trailers["x-last"]) == (TOLD, "MISS", "one")
    assert "grpc-timeout" not in handler.given, "whoever joins may have more time"
    answer, first, trailers = infer(channel, asks(b"m"))
    assert (answer, first["x-cache"], trailers) == (TOLD, "HIT", {})
    assert "detail=exact" in first["cache-status"]
    assert infer(channel, asks(b"m", b"\0\0\0@"))[1]["x-cache"] == "MISS"
    assert len(handler.asked) == 2
    # The controls of HTTP are metadata here.
    assert infer(channel, asks(b"m"), metadata=(("x-reprise-mode", "off"),))[1]["x-cache"] == "BYPASS"
    with pytest.raises(grpc.RpcError) as missed:
        infer(channel, asks(b"n"), metadata=(("cache-control", "only-if-cached"),))
    assert missed.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "only-if-cached" in missed.value.details()


@pytest.mark.parametrize(("name", "code"), [(b"refuse", "NOT_FOUND"), (b"late", "DATA_LOSS")])
def test_a_failure_keeps_its_status_and_is_not_kept(model, name: bytes, code: str) -> None:
    handler, channel, _ = model
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as failed:
            infer(channel, asks(name))
        assert failed.value.code() == grpc.StatusCode[code]
        assert failed.value.details() in ("no such model: 100 %", "lost")
    assert len(handler.asked) == 2


@pytest.mark.parametrize("request_", [b"", b"\xff\xff", asks(b"m") + field(9, b"newer"), field(1, b"m")])
def test_what_cannot_be_read_reaches_the_model_unaltered(model, request_: bytes) -> None:
    handler, channel, _ = model
    for _ in range(2):
        answer, first, trailers = infer(channel, request_)
        assert (answer, first["x-cache"], trailers["x-last"]) == (TOLD, "BYPASS", "one")
        assert "detail=unreadable" in first["cache-status"]
    assert handler.asked == [request_, request_]


def test_an_answer_that_is_none_is_passed_on_and_not_kept(model) -> None:
    handler, channel, _ = model
    for _ in range(2):
        assert infer(channel, asks(b"noise"))[0] == b"\xff"
    assert len(handler.asked) == 2


def test_many_at_once_are_one_call(model) -> None:
    handler, channel, _ = model
    with futures.ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda _: infer(channel, asks(b"m"))[0], range(64)))
    assert told == [TOLD] * 64
    assert len(handler.asked) == 1


# === ModelStreamInfer, whose requests are cached one by one ===


def named(name: bytes, content: bytes = b"\0\0\x80?", parameters: bytes = b"") -> bytes:
    tensor = field(1, b"X") + field(2, b"FP32") + field(3, b"\x01")
    return field(1, b"m") + field(3, name) + parameters + field(5, tensor) + field(7, content)


def told(name: bytes, value: bytes = b"\0\0\0@") -> bytes:
    """An answer as a request of this name gets it from the model."""
    outputs = field(5, field(1, b"Y") + field(2, b"FP32") + field(3, b"\x01")) + field(6, value)
    return field(2, field(1, b"m") + field(3, name) + outputs)


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The delimited fields of a message that has no others, each shorter than 128 bytes."""
    while message:
        length = message[1]
        yield message[0] >> 3, message[2 : 2 + length]
        message = message[2 + length :]


def name_in(answer: bytes) -> bytes:
    """The name that an answer bears: of two the last, as protobuf has it."""
    names = [name for at, part in fields(answer) if at == 2 for field_, name in fields(part) if field_ == 3]
    return names[-1]


class Streaming(grpc.GenericRpcHandler):
    """Answers each request of a stream as its content says."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.calls = 0
        self.second = threading.Event()
        self.left = threading.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.stream_stream_rpc_method_handler(self.stream)

    def stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self.calls += 1
        for said in requests:
            self.asked.append(said)
            name = dict(fields(said))[3]
            if b"slow" in said:
                self.second.wait(20)
            if b"next" in said:
                self.second.set()
            if b"hang" in said:
                context.add_callback(self.left.set)
                self.left.wait(20)
            if b"fail" in said:
                context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
            if b"oops" in said:
                yield field(1, b"a bad day") + field(2, field(3, name))
            elif b"many" in said:
                yield from (told(name, bytes([n, 0, 0, 0])) for n in range(3))
            else:
                yield told(name)


@pytest.fixture
def streaming(start) -> Iterator[tuple[Streaming, grpc.StreamStreamMultiCallable]]:
    handler = Streaming()
    with behind(start, handler, 96, "cache.finish_abandoned = false") as (channel, _):
        yield handler, channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")


def test_requests_of_one_call_are_answered_each_by_itself(streaming) -> None:
    handler, call = streaming
    asking: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    answers = call(iter(asking.get, None), timeout=20)
    asking.put(named(b"one"))
    assert next(answers) == told(b"one"), "not a byte differs"
    asking.put(named(b"two"))
    assert name_in(next(answers)) == b"two"
    asking.put(named(b"three", b"\0\0\0?"))
    assert next(answers) == told(b"three")
    asking.put(None)
    assert list(answers) == [] and answers.code() == grpc.StatusCode.OK
    assert len(handler.asked) == 2 == handler.calls


def test_all_answers_of_a_request_come_back_under_the_name_of_who_repeats_it(streaming) -> None:
    handler, call = streaming
    first = list(call(iter([named(b"one", b"many")]), timeout=20))
    assert first == [told(b"one", bytes([n, 0, 0, 0])) for n in range(3)]
    again = list(call(iter([named(b"other", b"many")]), timeout=20))
    assert [name_in(one) for one in again] == [b"other"] * 3
    assert all(one.startswith(was) for one, was in zip(again, first))
    assert len(handler.asked) == 1


def test_answers_come_in_the_order_of_their_requests(streaming) -> None:
    handler, call = streaming
    asked = [named(b"a", b"slow"), named(b"b", b"next"), named(b"c", b"many")]
    names = [name_in(one) for one in call(iter(asked), timeout=20)]
    assert names == [b"a", b"b", b"c", b"c", b"c"]
    assert handler.second.is_set(), "the second did not wait for the first one's answer to be asked"


def test_many_requests_of_one_call(streaming) -> None:
    handler, call = streaming
    asked = [named(b"n%d" % n, n.to_bytes(4, "big")) for n in range(150)]
    names = [name_in(one) for one in call(iter(asked * 2), timeout=60)]
    assert names == [b"n%d" % n for n in range(150)] * 2
    assert len(handler.asked) == 150


def test_an_error_is_told_and_not_kept(streaming) -> None:
    handler, call = streaming
    for name in (b"one", b"two"):
        [failed] = call(iter([named(name, b"oops")]), timeout=20)
        assert failed.startswith(field(1, b"a bad day")) and name_in(failed) == name
    assert len(handler.asked) == 2


def test_a_status_ends_the_call(streaming) -> None:
    handler, call = streaming
    answers = call(iter([named(b"one"), named(b"two", b"fail")]), timeout=20)
    with pytest.raises(grpc.RpcError) as failed:
        list(answers)
    assert failed.value.code() == grpc.StatusCode.NOT_FOUND
    assert failed.value.details() == "no such model"


def test_who_leaves_takes_its_requests_along(streaming) -> None:
    handler, call = streaming
    asking: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    answers = call(iter(asking.get, None), timeout=60)
    asking.put(named(b"one", b"hang"))
    eventually(lambda: handler.asked, what="the request at the model")
    answers.cancel()
    asking.put(None)
    eventually(handler.left.is_set, what="the model's call cancelled")


def test_steps_of_a_sequence_are_asked_one_after_another(streaming) -> None:
    handler, call = streaming
    step = field(4, field(1, b"sequence_id") + field(2, b"\x10\x07"))
    asked = [named(b"s%d" % n, b"\0\0\0?", step) for n in range(8)]
    names = [name_in(one) for one in call(iter(asked * 2), timeout=20)]
    assert names == [b"s%d" % n for n in range(8)] * 2
    assert handler.asked == asked * 2


def test_what_is_no_request_reaches_the_model(streaming) -> None:
    handler, call = streaming
    asked = named(b"one") + field(9, b"newer")
    for _ in range(2):
        assert list(call(iter([asked]), timeout=20)) == [told(b"one")]
    assert handler.asked == [asked] * 2
    assert list(call(iter([]), timeout=20)) == []


def test_a_model_that_dies_half_way_is_unavailable(start) -> None:
    """The head and half a message, then the connection is gone."""
    import socket

    import h2.connection

    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            peer.initiate_connection()
            connection.sendall(peer.data_to_send())
            while True:
                for event in peer.receive_data(connection.recv(65536)):
                    if isinstance(event, h2.events.StreamEnded):
                        head = [(":status", "200"), ("content-type", "application/grpc")]
                        peer.send_headers(event.stream_id, head)
                        peer.send_data(event.stream_id, b"\0\0\0\0\x20half")
                        connection.sendall(peer.data_to_send())
                        return
                connection.sendall(peer.data_to_send())

    thread = threading.Thread(target=serve)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    proxy: Reprise = start("", config=f'[[upstream]]\nname = "a"\nurls = ["{url}"]\nhttp2 = true\n')
    with grpc.insecure_channel(
        proxy.url.removeprefix("http://"), [("grpc.enable_http_proxy", 0)]
    ) as channel:
        with pytest.raises(grpc.RpcError) as broken:
            infer(channel, asks(b"m"))
    assert broken.value.code() == grpc.StatusCode.UNAVAILABLE
    thread.join()
    listener.close()
