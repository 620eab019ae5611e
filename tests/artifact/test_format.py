"""The layout in Python is the layout in C."""

from __future__ import annotations

import ctypes
import re
import subprocess

import pytest

import edgeq
from edgeq.artifact import ArchInfo
from edgeq.artifact import format as layout
from edgeq.errors import CompileError
from edgeq.runtime import native
from edgeq.runtime.build import _host_compiler
from edgeq.runtime.sources import runtime_root

HEADER = (runtime_root() / "include" / "edgeq" / "artifact.h").read_text()
RUNTIME_HEADER = (runtime_root() / "include" / "edgeq" / "edgeq.h").read_text()


def defined(name: str) -> str:
    found = re.search(rf"^#define {name} (.*)$", HEADER + RUNTIME_HEADER, re.MULTILINE)
    assert found, name
    return found[1].strip()


@pytest.fixture(scope="module")
def c_layout(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """sizeof and offsetof of every struct and field that Python mirrors, as the C compiler sees them."""
    mirrored = {record.name: [name for name, _ in record.fields] for record in layout.RECORDS}
    for name, struct in (("model", native.Model), ("context", native.Context), ("batch_array", native.BatchArray)):
        mirrored[f"edgeq_{name}"] = [field[0] for field in struct._fields_]
    lines = []
    for struct, fields in mirrored.items():
        lines.append(f'printf("{struct} %zu\\n", sizeof({struct}));')
        lines += [f'printf("{struct}.{f} %zu\\n", offsetof({struct}, {f}));' for f in fields]
    folder = tmp_path_factory.mktemp("layout")
    code = folder / "layout.c"
    code.write_text('#include <stdio.h>\n#include "edgeq/edgeq.h"\nint main(void) {\n' + "\n".join(lines) + "\n}\n")
    program = folder / "layout"
    subprocess.run(
        [*_host_compiler(), "-std=c99", f"-I{runtime_root() / 'include'}", code, "-o", program], check=True, timeout=60
    )
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {name: int(size) for name, size in (line.split() for line in printed.splitlines())}


@pytest.mark.parametrize("record", layout.RECORDS, ids=lambda record: record.name)
def test_records_match_the_header(record: layout.Record, c_layout: dict[str, int]) -> None:
    assert record.size == c_layout[record.name]
    for field, offset in record.offsets().items():
        assert offset == c_layout[f"{record.name}.{field}"], field


@pytest.mark.parametrize(
    ("name", "struct"),
    [
        ("edgeq_model", native.Model),
        ("edgeq_context", native.Context),
        ("edgeq_batch_array", native.BatchArray),
    ],
)
def test_ctypes_structs_match_the_header(name: str, struct: type[ctypes.Structure], c_layout: dict[str, int]) -> None:
    assert ctypes.sizeof(struct) == c_layout[name]
    for field in struct._fields_:
        assert getattr(struct, field[0]).offset == c_layout[f"{name}.{field[0]}"]


def test_constants_match_the_header() -> None:
    assert int(defined("EDGEQ_ABI_VERSION").rstrip("u")) == layout.ABI_VERSION
    assert defined("EDGEQ_TRAILER_MAGIC").strip('"').encode() == layout.TRAILER_MAGIC
    assert defined("EDGEQ_IMAGE_MAGIC").strip('"').encode() == layout.IMAGE_MAGIC
    assert int(defined("EDGEQ_DIGEST_SIZE")) == layout.DIGEST_SIZE
    assert int(defined("EDGEQ_MAX_RANK")) == layout.MAX_RANK
    assert int(defined("EDGEQ_MAX_THREADS").rstrip("u")) == layout.MAX_THREADS
    assert int(defined("EDGEQ_ALIGNMENT").rstrip("u")) == layout.ALIGNMENT
    assert int(defined("EDGEQ_DETAIL_SIZE")) == native.DETAIL_SIZE
    assert layout.TRAILER.size == 256


def test_codes_match_the_header() -> None:
    for arch, code in layout.ARCHES.items():
        assert int(defined(f"EDGEQ_ARCH_{arch.upper()}").rstrip("u")) == code
    for dtype, code in layout.DTYPES.items():
        assert int(defined(f"EDGEQ_{dtype.upper()}").rstrip("u")) == code
    for prefix, arch in (("X86", "x86_64"), ("ARM", "aarch64")):
        bits = re.findall(rf"^#define EDGEQ_{prefix}_(\w+) \(UINT64_C\(1\) << (\d+)\)$", HEADER, re.MULTILINE)
        assert [name.lower() for name, _ in bits] == list(layout.FEATURES[arch])
        assert [int(bit) for _, bit in bits] == list(range(len(bits)))


def test_feature_names_match_the_runtime() -> None:
    lib = native.load_library()
    lib.edgeq_cpu_feature_name.restype = ctypes.c_char_p
    for arch, code in layout.ARCHES.items():
        names = [lib.edgeq_cpu_feature_name(code, bit) for bit in range(len(layout.FEATURES[arch]) + 1)]
        assert names == [*(name.encode() for name in layout.FEATURES[arch]), None]


def test_versions_agree() -> None:
    assert defined("EDGEQ_VERSION").strip('"') == edgeq.__version__
    cmake = (runtime_root() / "CMakeLists.txt").read_text()
    assert f"project(edgeq VERSION {edgeq.__version__} " in cmake


def test_cmake_lists_every_source() -> None:
    cmake = (runtime_root() / "CMakeLists.txt").read_text()
    for path in [*(runtime_root() / "src").glob("*.c"), *(runtime_root() / "tools").glob("*.c")]:
        assert f"{path.parent.name}/{path.name}" in cmake


def test_record_refuses_unknown_fields() -> None:
    with pytest.raises(KeyError, match="has no field"):
        layout.STEP.pack(nmae=1)


def test_arch_info_round_trip() -> None:
    info = ArchInfo("x86_64", ("avx2", "avx512vnni"))
    assert ArchInfo.from_codes(1, info.feature_bits) == info
    assert ArchInfo("aarch64").feature_bits == 0


def test_arch_info_errors() -> None:
    with pytest.raises(CompileError, match="architecture 'mips'"):
        ArchInfo("mips")
    with pytest.raises(CompileError, match="unknown CPU feature 'avx2' of aarch64"):
        ArchInfo("aarch64", ("avx2",))
    with pytest.raises(ValueError, match="unknown architecture code 9"):
        ArchInfo.from_codes(9, 0)
    with pytest.raises(ValueError, match="unknown CPU feature bits"):
        ArchInfo.from_codes(1, 1 << 60)
