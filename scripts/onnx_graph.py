"""Writes an ONNX model file with nothing but numpy.

PyPI's `onnx` has no release that installs on every Python from 3.9 on, and drags protobuf along; the
few messages that a static graph needs are a page. Field numbers are those of onnx.proto (IR version 9).
"""

import struct

import numpy as np

TENSOR_TYPES = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "float16": 10}
OPSETS = {"": 20, "com.microsoft": 1}
IR_VERSION = 9


def varint(value):
    """Base-128, least significant group first; negative numbers are 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def message(field, *parts):
    """A length-delimited field: an embedded message, a string or bytes."""
    body = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return varint(field << 3 | 2) + varint(len(body)) + body


def attribute(name, value):
    if isinstance(value, float):
        typed = [varint(2 << 3 | 5) + struct.pack("<f", value), number(20, 1)]
    elif isinstance(value, int):
        typed = [number(3, value), number(20, 2)]
    else:
        typed = [number(8, v) for v in value] + [number(20, 7)]
    return message(5, message(1, name), *typed)


def tensor(name, value):
    dims = [number(1, size) for size in value.shape]
    kind = number(2, TENSOR_TYPES[value.dtype.name])
    return message(
        5,
        *dims,
        kind,
        message(8, name),
        message(9, np.ascontiguousarray(value).tobytes()),
    )


def port(field, name, dtype, shape):
    """A graph input (field 11) or output (12); a `str` in the shape is a free dimension."""
    dims = [
        message(1, message(2, d) if isinstance(d, str) else number(1, d)) for d in shape
    ]
    return message(
        field,
        message(1, name),
        message(2, message(1, number(1, TENSOR_TYPES[dtype]), message(2, *dims))),
    )


class Graph:
    """Nodes and constants in the order of their making, which must be a topological one."""

    def __init__(self, name):
        self.name, self.nodes, self.constants, self.ports = name, [], {}, []

    def constant(self, name, value):
        self.constants[name] = tensor(name, np.asarray(value))
        return name

    def input(self, name, dtype, shape):
        self.ports.append(port(11, name, dtype, shape))
        return name

    def output(self, name, dtype, shape):
        self.ports.append(port(12, name, dtype, shape))

    def op(self, kind, inputs, *outputs, domain="", **attributes):
        """Adds a node and returns its first output's name; '' leaves an optional input out."""
        fields = [message(1, i) for i in inputs] + [message(2, o) for o in outputs]
        fields += [message(3, outputs[0]), message(4, kind), message(7, domain)]
        self.nodes.append(
            message(1, *fields, *(attribute(k, v) for k, v in attributes.items()))
        )
        return outputs[0]

    def contrib(self, kind, inputs, *outputs, **attributes):
        """An operator of ONNX Runtime's own set (docs/ContribOperators.md in its repository)."""
        return self.op(kind, inputs, *outputs, domain="com.microsoft", **attributes)

    def to_bytes(self):
        graph = message(
            7, *self.nodes, message(2, self.name), *self.constants.values(), *self.ports
        )
        opsets = [
            message(8, message(1, domain), number(2, version))
            for domain, version in OPSETS.items()
        ]
        return number(1, IR_VERSION) + message(2, "reprise") + graph + b"".join(opsets)
