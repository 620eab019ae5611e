"""Thumb code of Armv8.1-M: MVE's integers pass, its floats are found, also those that the disassembler doesn't know."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeq.artifact import thumb_code
from edgeq.artifact.float_free import check, require
from edgeq.errors import ArtifactError
from tests.artifact.test_static_code import library

TRIPLE, CPU = "thumb-freestanding-eabihf", "cortex_m55+mve_fp+fp64"
INTEGER = """
vldrb.u8 q0, [r0], #16; vldrh.s32 q1, [r1, q2]; vld20.8 {q0, q1}, [r0]; vstrw.32 q3, [r2, #16]!
vmladava.s8 r0, q0, q1; vmlaldav.s16 r0, r1, q0, q1; vmla.i32 q0, q1, r2; vmlas.i8 q0, q1, r2; vmullb.s8 q0, q1, q2
vadd.i32 q0, q1, q2; vqadd.s16 q0, q1, r3; vsub.i8 q0, q1, q2; vmul.i32 q0, q1, q2; vqrdmulh.s32 q0, q1, r3
vrmulh.s32 q0, q1, q2; vmax.s32 q0, q1, q2; vmin.s8 q0, q1, q2; vabd.u8 q0, q1, q2; vabs.s32 q0, q1; vneg.s16 q0, q1
vshr.s32 q0, q1, #5; vrshl.s32 q0, q1, q2; vqrshl.s32 q0, r1; vshlc q0, r1, #8; vqmovnb.s32 q0, q1
vqshrunt.s16 q0, q1, #3; vmovlb.s8 q0, q1; vmvn q0, q1; vand q0, q1, q2; vmov.i32 q0, #0xff00; vmov.i8 q0, #7
vdup.8 q0, r1; vidup.u8 q0, r2, #1; vmov.8 q0[3], r1; vmov.u16 r1, q0[3]; vmov r0, s3; vmov d1, r2, r3
vmov.f32 s1, s2; vpush {d8-d9}; vmsr p0, r1; vpsel q0, q1, q2; vaddv.s32 r0, q1; vminv.u8 r1, q2; vrev32.8 q0, q1
vclz.i32 q0, q1; vcmp.s32 gt, q0, r1; vpst; vaddt.i32 q0, q0, q1; dls lr, r0; csel r0, r1, r2, eq; asrl r0, r1, #3
vctp.8 r1; sdiv r0, r1, r2; smlad r0, r1, r2, r3
"""
FLOATS = (
    "vadd.f32 q0, q1, q2",
    "vadd.f16 q0, q1, r2",
    "vmul.f32 q0, q1, q2",
    "vfma.f32 q0, q1, q2",
    "vfmas.f16 q0, q1, r2",
    "vabs.f32 q0, q1",
    "vneg.f16 q0, q1",
    "vabd.f32 q0, q1, q2",
    "vmaxnm.f32 q0, q1, q2",
    "vminnmv.f16 r0, q1",
    "vcvt.s32.f32 q0, q1",
    "vcvtb.f16.f32 q0, q1",
    "vrintz.f32 q0, q1",
    "vcmp.f32 gt, q0, r1",
    "vcmul.f32 q0, q1, q2, #90",
    "vcadd.f32 q0, q1, q2, #90",
    "vmov.f32 q0, #1.0",
    "vadd.f32 s0, s1, s2",
    "vadd.f64 d0, d1, d2",
    "vfma.f32 s0, s1, s2",
    "vcvt.s32.f32 s0, s1",
    "vmov.f32 s0, #1.0",
    "vcmp.f32 s0, s1",
    "vsqrt.f32 s0, s1",
    "vseleq.f32 s0, s1, s2",
)


def assembled(folder: Path, lines: list[str]) -> Path:
    text = "".join(f'"{line}\\n"' for line in lines)
    return library(folder, TRIPLE, f"__attribute__((naked)) void f(void) {{ __asm__ volatile({text}); }}", CPU)


def test_integer_vectors_pass(tmp_path: Path) -> None:
    lines = [line.strip() for line in re.split("[;\n]", INTEGER) if line.strip()]
    assert require(assembled(tmp_path, lines)).instructions >= len(lines)


def test_each_planted_float_is_found(tmp_path: Path) -> None:
    path = assembled(tmp_path, [word for line in FLOATS for word in ("vadd.i32 q0, q1, q2", line)])
    assert len(check(path).found) == len(FLOATS)
    with pytest.raises(ArtifactError, match=f"{len(FLOATS)} instructions"):
        require(path)


def test_what_is_no_instruction_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no instruction that the disassembler knows"):
        check(assembled(tmp_path, ["nop", ".inst.w 0xf8010101"]))


def test_a_long_instruction_that_is_cut_off() -> None:
    assert list(thumb_code.instructions(b"\x00\xbf\x00\xef")) == [(0, 2, 0xBF00)]


OBJDUMP = shutil.which("llvm-objdump-19") or shutil.which("llvm-objdump")
ARCH = ["--triple=thumbv8.1m.main-none-eabi", "--mattr=+mve.fp,+dsp,+fp64,+fullfp16,+lob"]
_FLOAT_TEXT = re.compile(
    r"(?!vmov)\w+(?:\.\w+)*\.(?:f16|f32|f64)|vcvt|vrint|vfm|vmaxnm|vminnm|vsel|vmovx|vins|vmov\.f\S+\s.*#"
)


@pytest.mark.skipif(OBJDUMP is None, reason="needs LLVM's disassembler: apt-get install llvm-19")
def test_random_words_against_llvm(tmp_path: Path) -> None:
    """No word that LLVM knows as floating point is taken for an integer instruction; words are drawn from the rows."""
    choose = random.Random(7)
    words = [choose.getrandbits(32) & ~mask | value for mask, value in thumb_code.INTEGER for _ in range(120)]
    words += [choose.getrandbits(32) | 0xEC000000 for _ in range(3000)]
    nops = ["nop"] * 6  # whatever a word does to the decoder is over by then
    path = assembled(tmp_path, [line for word in words for line in (f".inst.w 0x{word & 0xFFFFFFFF:08x}", *nops)])
    done = subprocess.run([str(OBJDUMP), "-d", *ARCH, str(path)], capture_output=True, text=True, check=True)
    known = 0
    for line in done.stdout.splitlines():
        match = re.match(r"\s*[0-9a-f]+:\s+([0-9a-f]{4}) ([0-9a-f]{4})\s+(\S.*)", line)
        if match and "unknown" not in line:
            word = int(match[1], 16) << 16 | int(match[2], 16)
            floats = bool(_FLOAT_TEXT.match(match[3]))
            assert not (floats and thumb_code.is_integer(word)), line
            known += thumb_code.is_integer(word)
    assert known > 1000
