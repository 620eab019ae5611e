"""The C runtime by itself: its own tests under sanitizers, heap calls, the examples, the CMake package, its size."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeq.runtime.build import _host_compiler, library_sources
from edgeq.runtime.load import host_arch
from edgeq.runtime.sources import runtime_root
from tests.support.fakes import patched, trailer_place, write_fake

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = runtime_root()
INCLUDE = [f"-I{RUNTIME / 'include'}", f"-I{RUNTIME / 'src'}"]
STRICT = ["-Wall", "-Wextra", "-Werror", "-Wpedantic", "-Wshadow"]
LINK = ["-pthread", "-lm"]


def build(out: Path, sources: Sequence[Path], *flags: str, compiler: Sequence[str] = ()) -> Path:
    command = [*(compiler or _host_compiler()), *STRICT, *flags, *INCLUDE, *sources, "-o", out, *LINK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return out


def run(*command: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake(tmp_path_factory.mktemp("c") / "m.edgeq", host_arch() or "", bias=0x80)


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_core_under_sanitizers(tmp_path: Path, sanitizer: str) -> None:
    flags = ["-std=c99", "-g", "-O1", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    program = build(tmp_path / "core", [RUNTIME / "tests" / "test_core.c", *library_sources()], *flags)
    done = run(program)
    assert (done.returncode, done.stdout) == (0, "all passed\n"), done.stderr


def test_program_under_sanitizers(tmp_path: Path, artifact: Path) -> None:
    """edgeq-run on good, damaged and hostile files: exit code 0 or 2, and no report of a sanitizer."""
    tools = sorted((RUNTIME / "tools").glob("*.c"))
    flags = ["-std=c99", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program = build(tmp_path / "edgeq-run", [*tools, *library_sources()], *flags)
    good = run(program, artifact, "--verify", "--profile", "--repeat", 3, "--info", "--threads", 4)
    assert good.returncode == 0, good.stderr
    assert "1 golden vectors, every output value the same" in good.stdout
    data = artifact.read_bytes()
    bad = tmp_path / "bad.edgeq"
    cases = [data[:300], data[:-7], b"", b"\x7fELF" + bytes(600), data[:900] + b"x" + data[901:]]
    for field in ("image_offset", "image_vaddr", "image_size", "entry_vaddr", "file_size"):
        cases += [patched(data, trailer_place(data, field), value.to_bytes(8, "little")) for value in (0, 2**63)]
    for place in (32, 54, 56, 64 + 56 + 8, 64 + 56 + 16, 64 + 56 + 32):  # ELF header, first PT_LOAD
        cases.append(patched(data, place, b"\xff\xff"))
    for case in cases:
        bad.write_bytes(case)
        done = run(program, bad)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("edgeq-run: "), done.stderr
        assert "Sanitizer" not in done.stderr
        assert "runtime error" not in done.stderr


def test_no_heap_while_running(tmp_path: Path, artifact: Path) -> None:
    program = build(tmp_path / "heap", [RUNTIME / "tests" / "test_heap.c", *library_sources()], "-std=gnu99", "-O2")
    done = run(program, artifact)
    assert (done.returncode, done.stdout) == (0, "heap calls while loading: 0, while running: 0\n"), done.stderr


def test_c_example(tmp_path: Path, artifact: Path) -> None:
    source = ROOT / "examples" / "c-minimal" / "main.c"
    program = build(tmp_path / "minimal", [source, *sorted((RUNTIME / "src").glob("*.c"))], "-std=c99", "-O2")
    done = run(program, artifact)
    assert done.returncode == 0
    assert done.stdout.startswith("y:")
    refused = run(program, tmp_path / "none.edgeq")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "can't be read" in refused.stderr


@pytest.mark.skipif(not shutil.which("cmake"), reason="needs cmake: apt-get install cmake")
def test_cmake_package_and_cpp_example(tmp_path: Path, artifact: Path) -> None:
    prefix = tmp_path / "prefix"
    steps = [
        ["cmake", "-S", RUNTIME, "-B", tmp_path / "runtime", "-DEDGEQ_BUILD_TESTS=ON"],
        ["cmake", "--build", tmp_path / "runtime"],
        ["ctest", "--test-dir", tmp_path / "runtime", "--output-on-failure"],
        ["cmake", "--install", tmp_path / "runtime", "--prefix", prefix],
        ["cmake", "-S", ROOT / "examples" / "cpp-cmake", "-B", tmp_path / "app", f"-DCMAKE_PREFIX_PATH={prefix}"],
        ["cmake", "--build", tmp_path / "app"],
    ]
    for step in steps:
        done = run(*step, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    done = run(tmp_path / "app" / "classify", artifact)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    refused = run(tmp_path / "app" / "classify", ROOT / "pyproject.toml")
    assert refused.returncode == 2
    assert "no edgeq trailer" in refused.stderr
    installed = run(prefix / "bin" / "edgeq-run", "--version")
    assert installed.stdout == "edgeq-run 0.1.0, artifact ABI 2\n"


CPP_TEST = """
#include <array>
#include <cstdio>
#include <edgeq/edgeq.hpp>
#define EXPECT(condition) if (!(condition)) { std::printf("line %d: %s\\n", __LINE__, #condition); return 1; }
int main(int argc, char **argv) {
  EXPECT(argc == 2);
  edgeq::Model first(argv[1], 3);
  EXPECT(first && first.inputs() == 1 && first.outputs() == 3 && first.verify());
  edgeq::Model model(std::move(first));
  EXPECT(!first && first.status() == EDGEQ_ERROR_MEMORY && !first.run());
  std::vector<float> pixels(16 * 24, 0.5f);
  EXPECT(model.run(pixels) && model.output(0).size() == 16 * 24 && model.output(9).empty());
  std::vector<std::int8_t> codes(16 * 24, 7);
  std::array<std::int32_t, 16> sums{};
  EXPECT(model.run(codes) && model.read_output(1, sums));
  EXPECT(sums[0] == sums[15] && model.output(1)[0] == static_cast<float>(sums[0]) * 0.01f);
  EXPECT(!model.run(std::vector<float>(3)) && model.status() == EDGEQ_ERROR_SIZE);
  EXPECT(!model.run(std::vector<std::int16_t>(16 * 24)) && model.status() == EDGEQ_ERROR_ARGUMENT);
  EXPECT(!model.run(codes, codes) && !model.read_output(0, sums));
  edgeq::Model none("/no/such/file");
  EXPECT(!none && none.status() == EDGEQ_ERROR_OPEN && none.handle() == nullptr && none.inputs() == 0);
  std::puts(none.message());
  return 0;
}
"""


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler: apt-get install g++")
def test_cpp_face(tmp_path: Path, artifact: Path) -> None:
    """-Wall -Wextra -Werror, without exceptions and RTTI, under the sanitizers."""
    objects = []
    for source in library_sources():
        objects.append(tmp_path / f"{source.stem}.o")
        build(objects[-1], [source], "-std=c99", "-c", "-g", "-fsanitize=address,undefined")
    code = tmp_path / "face.cpp"
    code.write_text(CPP_TEST)
    flags = ["-std=c++17", "-g", "-fno-exceptions", "-fno-rtti", "-fsanitize=address,undefined"]
    program = build(tmp_path / "face", [code, *objects], *flags, compiler=["c++"])
    done = run(program, artifact)
    assert (done.returncode, done.stdout) == (0, "the file can't be opened: No such file or directory\n"), done.stdout
