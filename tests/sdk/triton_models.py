"""A real Triton on the CPU with three models: a text one, a numeric one, a decoupled one.

Serves on the three ports that it is given (HTTP, gRPC, metrics) until its standard input closes.
"""

import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

calls = {"n": 0}


@batch
def echo(text_input):
    """Says its text in capitals, and how often it was asked."""
    calls["n"] += len(text_input)
    said = [f"{text[0].decode().upper()} #{calls['n']}".encode() for text in text_input]
    return {"text_output": np.array(said, dtype=object).reshape(-1, 1)}


@batch
def linear(X):
    """A model of numbers: y = 2x + how often it was asked."""
    calls["n"] += 1
    return {"Y": X * 2 + np.float32(calls["n"])}


def spell(requests):
    """Answers a text letter by letter."""
    calls["n"] += 1
    text = requests[0]["text_input"].flatten()[0].decode()
    for letter in f"{text}#{calls['n']}":
        yield [{"text_output": np.array([[letter.encode()]], dtype=object)}]


def main() -> None:
    http, grpc, metrics = (int(port) for port in sys.argv[1:4])
    config = TritonConfig(
        http_port=http, grpc_port=grpc, metrics_port=metrics, http_address="127.0.0.1",
        grpc_address="127.0.0.1",
    )
    text = [Tensor(name="text_input", dtype=bytes, shape=(1,))]
    said = [Tensor(name="text_output", dtype=bytes, shape=(1,))]
    with Triton(config=config) as triton:
        triton.bind("echo", echo, text, said, config=ModelConfig(max_batch_size=8))
        x, y = (Tensor(name=name, dtype=np.float32, shape=(-1,)) for name in "XY")
        triton.bind("linear", linear, [x], [y], config=ModelConfig(max_batch_size=8))
        triton.bind("spell", spell, text, said, config=ModelConfig(decoupled=True, max_batch_size=8))
        triton.run()
        sys.stdin.read()


if __name__ == "__main__":
    main()
