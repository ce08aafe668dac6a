"""Runs an ONNX model with a given libonnxruntime through its C API.

The check of a conversion must run the very library that Reprise will load, on any Python; the
`onnxruntime` package imports only under the Python that its wheel was built for. `OrtApi` is a table
of function pointers that only ever grows at its end (onnxruntime_c_api.h), so positions are stable.
"""

import ctypes
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_float,
    c_int,
    c_int64,
    c_size_t,
    c_uint32,
    c_void_p,
)

import numpy as np

API_VERSION = 24
INT64, WARNING, DEVICE_ALLOCATOR, DEFAULT_MEMORY = 7, 2, 0, 0
POSITIONS = {
    "GetErrorMessage": 2,
    "CreateEnv": 3,
    "CreateSessionFromArray": 8,
    "Run": 9,
    "CreateSessionOptions": 10,
    "CreateTensorWithDataAsOrtValue": 49,
    "GetTensorMutableData": 51,
    "CreateCpuMemoryInfo": 69,
}


class ApiBase(ctypes.Structure):
    _fields_ = [
        ("get_api", ctypes.CFUNCTYPE(c_void_p, c_uint32)),
        ("version", ctypes.CFUNCTYPE(c_char_p)),
    ]


class Model:
    """A loaded model. Nothing is released: the process that checks a conversion ends soon after."""

    def __init__(self, library, model):
        loaded = ctypes.CDLL(str(library))
        loaded.OrtGetApiBase.restype = POINTER(ApiBase)
        table = loaded.OrtGetApiBase().contents.get_api(API_VERSION)
        if not table:
            raise RuntimeError(f"{library} is older than ONNX Runtime 1.{API_VERSION}")
        self.table, self.model = ctypes.cast(table, POINTER(c_void_p)), model
        environment, options, self.session, self.memory = (
            c_void_p(),
            c_void_p(),
            c_void_p(),
            c_void_p(),
        )
        self.call("CreateEnv", c_int(WARNING), c_char_p(b"check"), byref(environment))
        self.call("CreateSessionOptions", byref(options))
        self.call(
            "CreateSessionFromArray",
            environment,
            c_char_p(model),
            c_size_t(len(model)),
            options,
            byref(self.session),
        )
        self.call(
            "CreateCpuMemoryInfo",
            c_int(DEVICE_ALLOCATOR),
            c_int(DEFAULT_MEMORY),
            byref(self.memory),
        )

    def run(self, inputs, output, shape):
        """Feeds int64 arrays by name and returns the float32 output of that shape."""
        names, values = (c_char_p * len(inputs))(), (c_void_p * len(inputs))()
        for n, (name, array) in enumerate(inputs.items()):
            names[n], value, sizes = (
                name.encode(),
                c_void_p(),
                (c_int64 * array.ndim)(*array.shape),
            )
            tensor = (
                c_void_p(array.ctypes.data),
                c_size_t(array.nbytes),
                sizes,
                c_size_t(array.ndim),
                c_int(INT64),
            )
            self.call(
                "CreateTensorWithDataAsOrtValue", self.memory, *tensor, byref(value)
            )
            values[n] = value
        result, data = c_void_p(), POINTER(c_float)()
        wanted = (c_char_p * 1)(output.encode())
        sent = (names, values, c_size_t(len(inputs)), wanted, c_size_t(1))
        self.call("Run", self.session, None, *sent, byref(result))
        self.call("GetTensorMutableData", result, byref(data))
        return np.ctypeslib.as_array(data, shape).copy()

    def call(self, name, *arguments):
        function = ctypes.CFUNCTYPE(c_void_p)(self.table[POSITIONS[name]])
        status = function(*arguments)
        if status:
            message = ctypes.CFUNCTYPE(c_char_p, c_void_p)(
                self.table[POSITIONS["GetErrorMessage"]]
            )(status)
            raise RuntimeError(f"ONNX Runtime, {name}: {message.decode()}")
