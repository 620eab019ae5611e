"""Damaged, foreign and hostile artifacts: the Python reader and the C loader both refuse them, with a reason."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.artifact import format as layout
from edgeq.artifact.read import read
from edgeq.errors import ArtifactError
from edgeq.runtime.load import host_arch
from edgeq.runtime.model import NativeModel
from tests.support.fakes import fake_image, image_place, patched, trailer_place, with_digest, write_fake

ARCH = host_arch() or ""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_fake(tmp_path_factory.mktemp("good") / "m.edgeq", ARCH).read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad") / "m.edgeq"


def refusals(place: Path, data: bytes) -> tuple[ArtifactError, ArtifactError]:
    """What the reader and the loader say about `data`."""
    place.write_bytes(data)
    with pytest.raises(ArtifactError) as by_reader:
        read(place)
    with pytest.raises(ArtifactError) as by_loader:
        NativeModel(place)
    for caught in (by_reader, by_loader):
        assert caught.value.where == str(place)
        assert caught.value.why
    return by_reader.value, by_loader.value


no_fixture_check = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@settings(no_fixture_check, max_examples=150)
@given(share=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_changed_byte_is_noticed(good: bytes, place: Path, share: float, flip: int) -> None:
    at = int(share * len(good))
    changed = bytearray(good)
    changed[at] ^= flip
    refusals(place, bytes(changed))


def test_every_changed_byte_of_the_trailer_is_noticed(good: bytes, place: Path) -> None:
    for at in range(len(good) - layout.TRAILER.size, len(good)):
        refusals(place, good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :])


@settings(no_fixture_check, max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_any_truncation_is_noticed(good: bytes, place: Path, share: float) -> None:
    refusals(place, good[: int(share * len(good))])


def test_messages_of_damaged_files(good: bytes, place: Path) -> None:
    cut = refusals(place, good[:-1])
    assert [error.what for error in cut] == ["m.edgeq is truncated", "the artifact is truncated"]
    changed = refusals(place, good[:500] + bytes([good[500] ^ 1]) + good[501:])
    assert "was changed after it was written" in changed[0].what
    assert "was changed after it was written" in changed[1].what
    empty = refusals(place, b"")
    assert empty[0].why == "it is empty"
    assert empty[1].why == "the file is empty"
    foreign = refusals(place, b"not an artifact, but a longer text that goes on. " * 20)
    assert [error.what for error in foreign] == [
        "m.edgeq is not an edgeq artifact",
        "the file is not an edgeq artifact, or contradicts itself",
    ]
    longer = refusals(place, with_digest(good[:-256] + bytes(8) + good[-256:]))
    assert all("should be" in (error.why or "") for error in longer)


def test_other_abi(good: bytes, place: Path) -> None:
    errors = refusals(place, patched(good, trailer_place(good, "abi_version"), struct.pack("<I", 9)))
    for error in errors:
        assert "written for another version of the runtime" in error.what
        assert "artifact of ABI 9" in (error.why or "")
        assert "compile the model again" in (error.hint or "")


def test_other_abi_of_the_image(good: bytes, place: Path) -> None:
    place.write_bytes(patched(good, image_place(good, "abi_version"), struct.pack("<I", 9)))
    with pytest.raises(ArtifactError, match="image of ABI 9"):
        NativeModel(place)


def test_other_architecture(place: Path) -> None:
    other = "aarch64" if ARCH == "x86_64" else "x86_64"
    write_fake(place, other)
    assert read(place).target.arch == other
    with pytest.raises(ArtifactError, match=f"built for {other}, this is {ARCH}") as caught:
        NativeModel(place)
    assert "--target host" in (caught.value.hint or "")


def test_missing_cpu_features(good: bytes, place: Path) -> None:
    place.write_bytes(patched(good, trailer_place(good, "cpu_features"), struct.pack("<Q", 1 << 40)))
    with pytest.raises(ArtifactError, match="this CPU has no feature of a newer edgeq"):
        NativeModel(place)
    with pytest.raises(ArtifactError, match="unknown CPU feature bits"):
        read(place)


def test_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a regular file"):
        NativeModel(tmp_path)
    with pytest.raises(ArtifactError, match="No such file"):
        NativeModel(tmp_path / "none")
    with pytest.raises(ArtifactError, match="can't be read"):
        read(tmp_path / "none")


EXTREMES = [0, 1, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]
FIELDS = [(name, code) for name, code in layout.TRAILER.fields if name not in ("magic", "reserved", "digest")]


@pytest.mark.parametrize(("field", "code"), FIELDS, ids=[name for name, _ in FIELDS])
def test_hostile_trailer(good: bytes, place: Path, field: str, code: str) -> None:
    """With a right digest: refused, except where the value says nothing that could be wrong."""
    size = struct.calcsize(code)
    for value in EXTREMES:
        patch = (value % 2 ** (8 * size)).to_bytes(size, "little")
        at = trailer_place(good, field)
        # 0 features are a promise that can't be checked; the code's size is only printed.
        if good[at : at + size] == patch or field == "code_size" or (field, value) == ("cpu_features", 0):
            continue
        if (field, value) == ("cpu_features", 1):
            continue  # AVX2 or dot product: may be there
        if field == "arch":
            place.write_bytes(patched(good, at, patch))
            with pytest.raises(ArtifactError):
                NativeModel(place)
            continue
        refusals(place, patched(good, at, patch))


IMAGE_FIELDS = [
    (name, code)
    for name, code in layout.IMAGE.fields
    if name not in ("reserved", "golden_count", "arena_size", "max_threads", "manifest_size", "weights_size")
]


@pytest.mark.parametrize(("field", "code"), IMAGE_FIELDS, ids=[name for name, _ in IMAGE_FIELDS])
def test_hostile_image_header(good: bytes, place: Path, field: str, code: str) -> None:
    size = struct.calcsize(code)
    at = image_place(good, field)
    for value in EXTREMES[2:]:
        patch = (value % 2 ** (8 * size)).to_bytes(size, "little")
        if good[at : at + size] == patch:
            continue
        place.write_bytes(patched(good, at, patch))
        with pytest.raises(ArtifactError):
            NativeModel(place)


@settings(no_fixture_check, max_examples=300)
@given(data=st.data())
def test_hostile_words_never_crash(good: bytes, place: Path, data: st.DataObject) -> None:
    """Any 8 bytes of headers or tables changed, with a right digest: an error, or a model whose tables can be read.

    It isn't run: code that somebody wants to harm with can be anything, which no loader can see.
    """
    image_at = image_place(good, "magic")
    end = image_at + layout.IMAGE.size + 3 * layout.STEP.size + 4 * layout.TENSOR.size
    spans = st.one_of(st.integers(0, 400), st.integers(image_at, end), st.integers(len(good) - 256, len(good) - 40))
    at = data.draw(spans)
    value = data.draw(st.sampled_from(EXTREMES) | st.integers(0, 2**64 - 1))
    place.write_bytes(patched(good, at, value.to_bytes(8, "little")))
    for attempt in (read, NativeModel):
        with contextlib.suppress(ArtifactError):
            attempt(place)


def test_python_reader_checks_golden_and_strings(good: bytes, place: Path) -> None:
    place.write_bytes(patched(good, image_place(good, "golden_stride"), struct.pack("<Q", 8)))
    with pytest.raises(ArtifactError, match="golden vectors don't fit"):
        read(place)
    with pytest.raises(ArtifactError, match="golden vectors don't fit"):
        NativeModel(place)
    place.write_bytes(patched(good, image_place(good, "strings_size"), struct.pack("<Q", 3)))
    with pytest.raises(ArtifactError, match="strings don't end"):
        read(place)


def test_round_trip_of_the_real_thing(good: bytes, place: Path) -> None:
    place.write_bytes(good)
    found, made = read(place), fake_image()
    assert found.image.steps == made.steps
    assert found.image.manifest == made.manifest
    assert [t.name for t in found.image.outputs] == ["y", "sums", "copy"]
    assert found.digest == good[-32:].hex()
