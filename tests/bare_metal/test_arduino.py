"""examples/arduino: the packed library serves a sketch, compiled as Arduino does, on an emulated board."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import edgeq
from tests.conftest import ROOT

EXAMPLE = ROOT / "examples" / "arduino"
FIRMWARE = ROOT / "cpp_runtime" / "firmware"
CORE = """#pragma once
#include <stdint.h>
extern "C" {
#include "semihost.h"
}
struct Port {
  void begin(long) {}
  void println(uint32_t value) { edgeq_print_number(static_cast<int32_t>(value)); edgeq_print("\\n"); }
};
static Port Serial;
static inline void delay(unsigned) {}
static inline long lroundf(float x) { return static_cast<long>(x < 0 ? x - 0.5f : x + 0.5f); }
"""
MAIN = """
extern "C" [[noreturn]] void edgeq_exit(int code) { edgeq_semihost_exit(code); }
int main() { setup(); loop(); return 0; }
"""
CPU = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]


@pytest.fixture(scope="module")
def packed(digits, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("arduino")
    edgeq.compile(
        digits / "digits.onnx",
        target="cortex-m4",
        calib=digits / "calib.npz",
        samples=16,
        output=folder / "static",
        name="digits",
    )
    subprocess.run([EXAMPLE / "pack.sh", folder / "static", "cortex-m4", folder / "Digits"], check=True)
    return folder / "Digits"


@pytest.mark.firmware
def test_the_layout_is_a_precompiled_library(packed) -> None:
    files = {str(p.relative_to(packed)) for p in packed.rglob("*") if p.is_file()}
    assert files == {
        "library.properties",
        "src/digits.h",
        "src/edgeq_static.h",
        "src/cortex-m4/libdigits.a",
        "examples/Digits/Digits.ino",
    }
    keys = dict(line.split("=", 1) for line in (packed / "library.properties").read_text().splitlines())
    assert (keys["precompiled"], keys["ldflags"], keys["includes"]) == ("full", "-ldigits", "digits.h")


@pytest.mark.firmware
def test_the_sketch_reads_its_digit(packed, tmp_path) -> None:
    (tmp_path / "Arduino.h").write_text(CORE)
    sketch = (packed / "examples" / "Digits" / "Digits.ino").read_text()
    (tmp_path / "sketch.cpp").write_text(f'#include "Arduino.h"\n{sketch}{MAIN}')
    include = [f"-I{packed / 'src'}", f"-I{FIRMWARE}", f"-I{tmp_path}"]
    flags = [*CPU, "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding"]
    plus = ["arm-none-eabi-g++", *flags, "-std=gnu++17", "-fno-exceptions", "-fno-rtti", *include]
    subprocess.run([*plus, "-c", tmp_path / "sketch.cpp", "-o", tmp_path / "sketch.o"], check=True)
    memory = ["FLASH_ORIGIN=0", "FLASH_LENGTH=0x80000", "RAM_ORIGIN=0x20000000", "RAM_LENGTH=0x80000"]
    link = ["arm-none-eabi-gcc", *flags, f"-I{FIRMWARE}", "-nostartfiles", "-Wl,--gc-sections", "--specs=nosys.specs"]
    link += ["-T", FIRMWARE / "cortex-m.ld", *(f"-Wl,--defsym={place}" for place in memory)]
    inputs = [tmp_path / "sketch.o", FIRMWARE / "startup.c", f"-L{packed / 'src' / 'cortex-m4'}", "-ldigits"]
    subprocess.run([*link, *inputs, "-o", tmp_path / "sketch.elf"], check=True)
    emulator = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
    emulator += ["-semihosting-config", "enable=on,target=native", "-kernel", str(tmp_path / "sketch.elf")]
    done = subprocess.run(emulator, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout + done.stderr).split() == ["0"]


def test_pack_says_what_it_wants(tmp_path) -> None:
    done = subprocess.run([EXAMPLE / "pack.sh", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: pack.sh" in done.stderr
