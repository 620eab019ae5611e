"""The library itself: hashing, loading options, building, size."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.cache import cached_file, content_key
from edgeq.errors import ToolError
from edgeq.runtime import build, native
from edgeq.runtime.load import host_arch
from edgeq.runtime.sources import runtime_root
from tests.support.fakes import write_fake

LIBRARY_LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def lib() -> ctypes.CDLL:
    return native.load_library()


@given(size=st.integers(0, 1000), seed=st.integers(0, 9))
def test_blake2b_is_that_of_hashlib(lib: ctypes.CDLL, size: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(size)
    digest = ctypes.create_string_buffer(32)
    lib.edgeq_blake2b_256(digest, data, size)
    assert digest.raw == hashlib.blake2b(data, digest_size=32).digest()


def test_blake2b_at_block_borders(lib: ctypes.CDLL) -> None:
    digest = ctypes.create_string_buffer(32)
    for size in (0, 1, 127, 128, 129, 255, 256, 257, 1 << 16):
        lib.edgeq_blake2b_256(digest, bytes(size), size)
        assert digest.raw == hashlib.blake2b(bytes(size), digest_size=32).digest()


def test_every_status_has_a_sentence(lib: ctypes.CDLL) -> None:
    sentences = [lib.edgeq_status_string(status) for status in range(14)]
    assert len(set(sentences)) == 14
    assert lib.edgeq_status_string(99) == b"unknown status"


@pytest.mark.parametrize("flags", [1, 2, 3])
def test_loading_options(lib: ctypes.CDLL, tmp_path: Path, flags: int) -> None:
    """A private copy (1), no digest (2): the golden vectors come out right either way."""
    path = write_fake(tmp_path / "m.edgeq", host_arch() or "")
    options = (ctypes.c_uint32 * 2)(flags, 0)
    model, context = native.Model(), native.Context()
    assert lib.edgeq_model_load(ctypes.byref(model), bytes(path), options) == 0
    check_verifies(lib, model, context)
    lib.edgeq_model_free(ctypes.byref(model))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    status = lib.edgeq_model_load(ctypes.byref(model), bytes(path), options)
    assert status == (0 if flags & 2 else native.STATUS_DIGEST)
    lib.edgeq_model_free(ctypes.byref(model))


def test_loading_from_memory(lib: ctypes.CDLL, tmp_path: Path) -> None:
    data = write_fake(tmp_path / "m.edgeq", host_arch() or "").read_bytes()
    lib.edgeq_model_load_bytes.argtypes = [
        ctypes.POINTER(native.Model),
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
    ]
    model = native.Model()
    assert lib.edgeq_model_load_bytes(ctypes.byref(model), data, len(data), None) == 0
    check_verifies(lib, model, native.Context())
    lib.edgeq_model_free(ctypes.byref(model))
    assert lib.edgeq_model_load_bytes(ctypes.byref(model), data, len(data) - 1, None) == 3
    assert model.detail == b"no edgeq trailer at the end"


def check_verifies(lib: ctypes.CDLL, model: native.Model, context: native.Context) -> None:
    size = lib.edgeq_arena_size(ctypes.byref(model))
    memory = np.zeros(size + 64, np.uint8)
    arena = memory.ctypes.data + -memory.ctypes.data % 64
    assert lib.edgeq_context_init(ctypes.byref(context), ctypes.byref(model), arena, size, None) == 0
    count = ctypes.c_uint32()
    assert lib.edgeq_verify(ctypes.byref(context), ctypes.byref(count)) == 0
    assert count.value == 1


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-gcc"), reason="needs gcc-aarch64-linux-gnu from apt")
@pytest.mark.skipif(not shutil.which("cmake"), reason="needs cmake: apt-get install cmake")
def test_library_for_arm_is_small(tmp_path: Path) -> None:
    options = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DBUILD_SHARED_LIBS=ON"]
    options += ["-DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc", "-DEDGEQ_BUILD_RUN=OFF"]
    subprocess.run(["cmake", "-S", runtime_root(), "-B", tmp_path, *options], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", tmp_path], check=True, capture_output=True)
    stripped = tmp_path / "stripped.so"
    strip = shutil.which("aarch64-linux-gnu-strip") or "strip"
    subprocess.run([strip, "-o", stripped, tmp_path / "libedgeq.so"], check=True)
    assert stripped.stat().st_size <= LIBRARY_LIMIT


def test_compiler_errors_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(build, "_FLAGS", [*build._FLAGS, "-include", "nonsense.h"])
    with pytest.raises(ToolError, match=r"compiling blake2b\.c failed") as caught:
        build.library()
    assert "nonsense" in (caught.value.why or "")
    assert not list(tmp_path.rglob("*.so"))


def test_cache_in_a_place_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(ToolError, match="the cache folder can't be made") as caught:
        cached_file("a", "b", "c", lambda made: None)
    assert "EDGEQ_CACHE_DIR" in (caught.value.hint or "")


def test_cache_builds_once_and_reports_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path))
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        path.write_text("content")

    first, second = (cached_file("folder", "name", "key", make) for _ in range(2))
    assert first == second
    assert first.read_text() == "content"
    assert len(made) == 1
    with pytest.raises(ToolError, match="can't be put into the cache"):
        cached_file("folder", "name", "other", lambda path: None)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["name"]


def test_cache_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeq.cache import cache_dir

    monkeypatch.delenv("EDGEQ_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir("sub") == tmp_path / "xdg" / "edgeq" / "sub"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "edgeq"


def test_content_keys_count_borders() -> None:
    assert content_key(["ab", "c"]) != content_key(["a", "bc"])
    assert content_key([b"a"]) == content_key(["a"])
