"""ctypes declarations of the C runtime (`cpp_runtime/include/edgeq/edgeq.h`). Nothing but the mapping."""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p

from edgeq.errors import ArtifactError, EdgeqError, RunError, ToolError
from edgeq.runtime.build import library

DETAIL_SIZE = 160
STATUS_OPEN, STATUS_ABI, STATUS_ARCH, STATUS_CPU, STATUS_DIGEST = 2, 5, 6, 7, 8
_ARTIFACT_STATUSES = range(2, 9)


class Model(ctypes.Structure):
    """`edgeq_model`."""

    _fields_ = (
        ("image", c_void_p),
        ("images", c_void_p),
        ("step", c_void_p),
        ("weights", c_void_p),
        ("mapping", c_void_p),
        ("mapping_size", c_size_t),
        ("cpu_features", c_uint64),
        ("code_size", c_uint64),
        ("variant", c_uint32),
        ("stands_for", c_uint32),
        ("detail", ctypes.c_char * DETAIL_SIZE),
    )


class Context(ctypes.Structure):
    """`edgeq_context`."""

    _fields_ = (
        ("model", c_void_p),
        ("arena", c_void_p),
        ("pool", c_void_p),
        ("detail", ctypes.c_char * DETAIL_SIZE),
    )


class BatchArray(ctypes.Structure):
    """`edgeq_batch_array`."""

    _fields_ = (("values", c_void_p), ("is_float", c_uint32), ("reserved", c_uint32))


@functools.cache
def load_library() -> ctypes.CDLL:
    """The runtime library with its signatures.

    Raises:
        ToolError: it can't be built or loaded.
    """
    path = library()
    try:
        lib = ctypes.CDLL(str(path))
    except OSError as error:
        raise ToolError("the runtime library can't be loaded", where=str(path), why=str(error)) from error
    model, context = POINTER(Model), POINTER(Context)
    signatures = {
        "edgeq_status_string": (c_char_p, [c_int]),
        "edgeq_model_load": (c_int, [model, c_char_p, c_void_p]),
        "edgeq_model_free": (None, [model]),
        "edgeq_program": (c_int, [model, model, c_uint32]),
        "edgeq_variant": (c_int, [model, model, c_uint32]),
        "edgeq_arena_size": (c_size_t, [model]),
        "edgeq_pool_create": (c_int, [POINTER(c_void_p), c_uint32]),
        "edgeq_pool_free": (None, [c_void_p]),
        "edgeq_context_init": (c_int, [context, model, c_void_p, c_size_t, c_void_p]),
        "edgeq_run": (c_int, [context]),
        "edgeq_run_profiled": (c_int, [context, c_void_p]),
        "edgeq_run_batch": (c_int, [context, c_size_t, POINTER(BatchArray), POINTER(BatchArray)]),
        "edgeq_verify": (c_int, [context, POINTER(c_uint32)]),
        "edgeq_host_arch": (c_uint32, []),
        "edgeq_host_cpu_features": (c_uint64, []),
        "edgeq_clock_ns": (c_uint64, []),
        "edgeq_blake2b_256": (None, [c_void_p, c_void_p, c_size_t]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


_HINTS = {
    STATUS_OPEN: "check the path and its permissions",
    STATUS_ABI: "compile the model again with this version of edgeq",
    STATUS_ARCH: "compile it for this machine with --target host, or run it under an emulator",
    STATUS_CPU: "compile it for this machine with --target host",
    STATUS_DIGEST: "copy it again from where it came, or compile it again",
}


def failure(status: int, detail: bytes, where: str | None) -> EdgeqError:
    """The error for a status that isn't EDGEQ_OK."""
    sentence = load_library().edgeq_status_string(status).decode()
    kind = ArtifactError if status in _ARTIFACT_STATUSES else RunError
    return kind(sentence, where=where, why=detail.decode("utf-8", "replace") or None, hint=_HINTS.get(status))
