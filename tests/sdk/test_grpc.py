"""gRPC through the proxy, with the real grpcio on both sides: Triton and TGI speak it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from rig import Reprise

METHOD = "/inference.Echo/"


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


@pytest.fixture
def channel(start) -> Iterator[grpc.Channel]:
    server = grpc.server(futures.ThreadPoolExecutor(16), handlers=[Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    config = f"""
        [[upstream]]
        name = "grpc"
        urls = ["http://127.0.0.1:{port}"]
        http2 = true
        """
    proxy: Reprise = start("", config=config)
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(proxy.url.removeprefix("http://"), options) as channel:
        yield channel
    server.stop(None)


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
    import queue

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
