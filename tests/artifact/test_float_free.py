"""The float check: instructions of every class, planted float code for both architectures, code that can't be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeq import artifact
from edgeq.artifact import elf, float_free
from edgeq.artifact.float_free import check, is_float, require, require_once
from edgeq.compiler import CompileOptions, compile_graph, load_target
from edgeq.errors import ArtifactError, ToolError
from tests.cli.helpers import edgeq
from tests.integer.cases import CASES, RandomChoice

INTEGER_X86 = [
    "vpaddd zmm0, zmm1, zmm2", "vpdpbusd zmm0, zmm1, zmm2", "pmaddwd xmm0, xmm1", "vpsadbw ymm0, ymm1, ymm2",
    "vmovups ymm0, [rax]", "movaps xmm0, xmm1", "movsd xmm0, [rax]", "vmovss xmm1, [rax]", "vmovd xmm0, eax",
    "vbroadcastss ymm0, xmm1", "vinserti128 ymm0, ymm1, xmm2, 1", "vextractf128 xmm0, ymm1, 1",
    "insertps xmm0, xmm1, 1", "vpermilps ymm0, ymm1, 1", "vperm2f128 ymm0, ymm1, ymm2, 1",
    "vshufps ymm0, ymm1, ymm2, 1", "vshuff64x2 zmm0, zmm1, zmm2, 1", "vunpcklpd ymm0, ymm1, ymm2",
    "vblendvps ymm0, ymm1, ymm2, ymm3", "valignd zmm0, zmm1, zmm2, 1", "vandps ymm0, ymm1, ymm2", "xorps xmm0, xmm0",
    "vandnpd xmm0, xmm1, xmm2", "vzeroupper", "kmovw k1, eax", "kandb k1, k2, k3", "kortestd k1, k2",
    "vgatherdps ymm0, [rax + ymm1], ymm2", "vcompressps zmm0, zmm1", "vmovmskps eax, ymm0", "rep movsd [rdi], [rsi]",
    "rep stosd [rdi], eax", "push rbp", "imul eax, ecx", "idiv ecx", "vpmovusdb xmm0, zmm1", "vpabsd zmm0, zmm1",
    "vlddqu ymm0, [rax]", "cmovne eax, ecx",
]  # fmt: skip
FLOAT_X86 = [
    "addps xmm0, xmm1", "vaddss xmm0, xmm1, xmm2", "vmulpd ymm0, ymm1, ymm2", "vfmadd231ps zmm0, zmm1, zmm2",
    "vdivsd xmm0, xmm1, xmm2", "sqrtss xmm0, xmm1", "vrsqrt14ps zmm0, zmm1", "rcpps xmm0, xmm1",
    "vmaxps ymm0, ymm1, ymm2", "minsd xmm0, xmm1", "cmpltps xmm0, xmm1", "vcmpps k1, zmm0, zmm1, 1",
    "ucomisd xmm0, xmm1", "vcomiss xmm0, xmm1", "cvtsi2sd xmm0, eax", "vcvttps2dq ymm0, ymm1", "cvttsd2si eax, [rcx]",
    "vcvtps2ph xmm0, ymm1, 0", "vdpbf16ps zmm0, zmm1, zmm2", "haddps xmm0, xmm1", "addsubpd xmm0, xmm1",
    "vdpps ymm0, ymm1, ymm2, 1", "roundss xmm0, xmm1, 1", "vrndscaleps zmm0, zmm1, 1", "vscalefps zmm0, zmm1, zmm2",
    "vfpclassps k1, zmm0, 1", "vaddph zmm0, zmm1, zmm2", "fld dword ptr [rax]", "fadd st(0), st(1)",
    "fistp dword ptr [rax]", "wait", "ldmxcsr [rax]", "vstmxcsr [rax]", "emms", "pfadd mm0, mm1", "pi2fd mm0, mm1",
    "cvtpi2ps xmm0, mm0",
]  # fmt: skip
INTEGER_ARM = [
    "add w0, w1, w2", "mul v0.4s, v1.4s, v2.4s", "sdot v0.4s, v1.16b, v2.4b[0]", "smull v0.8h, v1.8b, v2.8b",
    "fmov s0, w1", "fmov x0, d1", "fcsel d0, d1, d2, eq", "bfi w0, w1, #3, #4", "bfxil x0, x1, #1, #2",
    "bfm w0, w1, #1, #2", "bfc w0, #1, #2", "tbl v0.16b, {v1.16b}, v2.16b", "ursqrte v0.4s, v1.4s",
    "sqrdmulh v0.8h, v1.8h, v2.8h", "b.ne #0x10", "udiv x0, x1, x2",
]  # fmt: skip
FLOAT_ARM = [
    "fadd s0, s1, s2", "fmla v0.4s, v1.4s, v2.4s", "fdiv d0, d1, d2", "fsqrt s0, s1", "fcmp s0, s1",
    "fmax v0.4s, v1.4s, v2.4s", "fcvtzs w0, s0", "scvtf s0, w0", "ucvtf v0.4s, v1.4s", "fneg s0, s1", "frintn s0, s1",
    "bfdot v0.4s, v1.8h, v2.8h", "bfcvt h0, s1", "bfmmla v0.4s, v1.8h, v2.8h", "fjcvtzs w0, d0", "frecpe s0, s1",
    "fmlal v0.4s, v1.4h, v2.4h",
]  # fmt: skip


@pytest.mark.parametrize(
    ("arch", "text", "wanted"),
    [
        *(("x86_64", text, False) for text in INTEGER_X86),
        *(("x86_64", text, True) for text in FLOAT_X86),
        *(("aarch64", text, False) for text in INTEGER_ARM),
        *(("aarch64", text, True) for text in FLOAT_ARM),
    ],
)
def test_classes(arch: str, text: str, wanted: bool) -> None:
    mnemonic, _, operands = text.partition(" ")
    if mnemonic == "rep":
        mnemonic, _, operands = operands.partition(" ")
        mnemonic = f"rep {mnemonic}"
    assert is_float(arch, mnemonic, operands) is wanted


TARGETS = {"x86_64": "x86_64-linux-musl", "aarch64": "aarch64-linux-musl"}
CLEAN = "int f(const int *x, int n) { int s = 0; for (int i = 0; i < n; i++) s += x[i] * (x[i] >> 3); return s; }"
PLANTED = {
    "arithmetic": "float f(float a, float b) { return a * b + 1.5f; }",
    "conversion": "int f(int a) { return (int)((double)a / 3.0); }",
    "comparison": "int f(float a, float b) { return a < b; }",
    "square root": "float f(float a) { return __builtin_sqrtf(a); }",
    "vectors": "void f(float *a) { for (int i = 0; i < 64; i++) a[i] += a[i + 64]; }",
}


def shared_object(folder: Path, arch: str, source: str) -> Path:
    """A linked object as artifacts are: read-only segments."""
    path, code = folder / f"{arch}.so", folder / "code.c"
    code.write_text(source)
    flags = ["-target", TARGETS[arch], "-O3", "-shared", "-nostdlib", "-fPIC", "-fno-sanitize=all"]
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags, "-c", str(code), "-o", f"{path}.o"], check=True)
    linker = [sys.executable, "-m", "ziglang", "ld.lld", "-shared", "-z", "norelro", "-z", "rodynamic", f"{path}.o"]
    subprocess.run([*linker, "-o", str(path)], check=True)
    return path


@pytest.mark.parametrize("arch", TARGETS)
def test_integer_code_passes(arch: str, tmp_path: Path) -> None:
    result = require(shared_object(tmp_path, arch, CLEAN))
    assert result.instructions > 5
    assert result.found == ()


@pytest.mark.parametrize("arch", TARGETS)
@pytest.mark.parametrize("kind", PLANTED)
def test_planted_floats_are_found(arch: str, kind: str, tmp_path: Path) -> None:
    path = shared_object(tmp_path, arch, PLANTED[kind])
    result = check(path)
    assert result.found
    message = rf"computes with floating-point numbers: {len(result.found)} instructions"
    with pytest.raises(ArtifactError, match=message) as caught:
        require(path)
    assert str(result.found[0]) in caught.value.render()


def test_command(tmp_path: Path) -> None:
    case = CASES["LayerNorm"](RandomChoice(1))
    compiled = compile_graph(case.graph, load_target("x86-avx2"), CompileOptions(golden_inputs=[case.inputs]))
    path = tmp_path / "model.edgeq"
    artifact.write(compiled.image, compiled.objects, compiled.arch, path)
    answer = edgeq("verify", path, "--hash-only", "--float-free", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["float_free"] > 20
    assert "none of" in edgeq("verify", path, "--hash-only", "--float-free").out


def test_unreadable_code(tmp_path: Path) -> None:
    path = shared_object(tmp_path, "x86_64", CLEAN)
    data = bytearray(path.read_bytes())
    segment = next(s for s in elf.parse(data).loads() if s.flags & elf.PF_X)
    data[segment.offset + 3 : segment.offset + 5] = b"\x06\x06"  # not an instruction in 64-bit mode
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="no instruction that the disassembler knows"):
        check(path)


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("hello")
    with pytest.raises(ArtifactError, match="can't be checked"):
        check(path)
    data = bytearray(shared_object(tmp_path, "x86_64", CLEAN).read_bytes())
    data[18] = 8  # MIPS
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="ELF machine 8"):
        check(path)


def test_missing_disassembler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared_object(tmp_path, "x86_64", CLEAN)
    monkeypatch.setitem(sys.modules, "capstone", None)
    with pytest.raises(ToolError, match="needs the disassembler Capstone"):
        float_free.check(path)


def test_code_that_passed_is_not_disassembled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path / "cache"))
    path = shared_object(tmp_path, "x86_64", CLEAN)
    expected = require(path)
    seen: list[Path] = []

    def counted(file: Path) -> float_free.FloatCheck:
        seen.append(file)
        return require(file)

    monkeypatch.setattr(float_free, "require", counted)
    assert [require_once(path), require_once(path)] == [expected, expected]
    assert seen == [path]
    (entry,) = (tmp_path / "cache" / "float-free").glob("*/instructions")
    entry.write_bytes(b"12x")
    assert require_once(path) == expected
    assert len(seen) == 2


def test_code_that_failed_fails_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path / "cache"))
    path = shared_object(tmp_path, "x86_64", PLANTED["arithmetic"])
    for _ in range(2):
        with pytest.raises(ArtifactError, match="computes with floating-point numbers"):
            require_once(path)
