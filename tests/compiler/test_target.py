"""Targets: the page about new ones is true, and broken ones are explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgeq import artifact, runtime
from edgeq.compiler import compile_graph, list_targets, load_target, load_variants
from edgeq.errors import TargetError
from tests.support.graphs import Layers

PAGE = Path(__file__).resolve().parents[2] / "docs" / "new-target.md"


def my_board(folder: Path) -> Path:
    """The page's three files, as a reader would copy them."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    board = folder / "my-board"
    board.mkdir()
    for name, block in zip(("target.toml", "inner.py", "depthwise.py"), blocks, strict=True):
        (board / name).write_text(block, encoding="utf-8")
    return board


@pytest.mark.emulated
def test_the_pages_target_compiles_and_gives_the_references_bits(tmp_path):
    m = Layers()
    x = m.input(1, 3, 8, 8)
    y = m.conv(x, 8, 3)
    graph = m.finish(m.add(m.conv(m.conv(y, 8, 3, group=8), 8, 1), y))
    target = load_target(str(my_board(tmp_path)))
    compiled = compile_graph(graph, target)
    artifact.write(compiled.image, compiled.objects, compiled.arch, tmp_path / "m.edgeq")
    assert runtime.load(tmp_path / "m.edgeq").verify() == 1
    assert compiled.image.manifest["target"] == "my-board"


def test_every_built_in_target_loads():
    names = list_targets()
    assert {"arm", "arm-neon", "arm-dotprod", "host", "x86-avx2", "x86-vnni"} <= set(names)
    for name in names:
        if name not in ("host", "arm", "wasm"):
            assert load_target(name).name == name


def test_variants_are_one_architecture_best_first(tmp_path: Path):
    assert [target.name for target in load_variants("arm")] == ["arm-i8mm", "arm-dotprod", "arm-neon"]
    assert [target.name for target in load_variants("arm-neon")] == ["arm-neon"]
    with pytest.raises(TargetError, match=r"'arm' stands for several: arm-i8mm, arm-dotprod, arm-neon"):
        load_target("arm")
    board = tmp_path / "board"
    board.mkdir()
    for listed, words in (
        ('["arm-neon", "x86-avx2"]', "different architectures"),
        ("[]", "must be a list of names"),
        ('"arm-neon"', "must be a list of names"),
    ):
        (board / "target.toml").write_text(f'name = "board"\nvariants = {listed}\n', encoding="utf-8")
        with pytest.raises(TargetError, match=words):
            load_variants(str(board))


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(TargetError, match=r"unknown target 'x86-avx22'(.|\n)*did you mean 'x86-avx2'"):
        load_target("x86-avx22")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("vector_bits = 128", "vector_bits = 3"), "vector_bits"),
        (('activation = "s8"', 'activation = "f32"'), "activation"),
        (("[codegen]", "surprise = 1\n[codegen]"), "surprise"),
        (('kind = "llvm"', "kind = "), "target.toml"),
        (('arch = "aarch64"', 'arch = "z80"'), "arch"),
    ],
)
def test_a_broken_file_names_the_key(change, words, tmp_path):
    board = my_board(tmp_path)
    path = board / "target.toml"
    path.write_text(path.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(TargetError, match=words):
        load_target(str(board))


def test_a_target_without_products_says_so(tmp_path):
    board = my_board(tmp_path)
    (board / "inner.py").unlink()
    target = load_target(str(board))
    with pytest.raises(TargetError, match=r"has no inner\.py"):
        _ = target.inner


def test_an_alias_that_nothing_here_satisfies(tmp_path):
    board = tmp_path / "alias"
    board.mkdir()
    (board / "target.toml").write_text('name = "alias"\nresolve = ["arm-dotprod"]\n', encoding="utf-8")
    if load_target("arm-dotprod").runs_here():
        assert load_target(str(board)).name == "arm-dotprod"
    else:
        with pytest.raises(TargetError, match="this processor runs none of arm-dotprod"):
            load_target(str(board))


def extension(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "target.toml").write_text(text, encoding="utf-8")
    return folder


def test_a_target_that_extends_another_has_its_files_and_its_tables():
    base, target = load_target("arm-neon"), load_target("arm-cortex-a53")
    assert target.spec.codegen.mcpu == "cortex-a53"
    assert target.spec.codegen.mtriple == base.spec.codegen.mtriple
    assert target.spec.toolchain.emulator == base.spec.toolchain.emulator
    assert target.file("inner.py") == base.folder / "inner.py"
    assert target.costs == base.costs
    assert list(target.folder.iterdir()) == [target.folder / "target.toml"]


@pytest.mark.emulated
@pytest.mark.parametrize("name", ["arm-cortex-a53", "arm-cortex-a55", "arm-cortex-a510", "arm-cortex-a7"])
def test_cores_by_name_give_the_references_bits(name, tmp_path):
    m = Layers()
    y = m.conv(m.input(1, 3, 8, 8), 8, 3)
    graph = m.finish(m.add(m.conv(m.conv(y, 8, 3, group=8), 8, 1), y))
    compiled = compile_graph(graph, load_target(name))
    artifact.write(compiled.image, compiled.objects, compiled.arch, tmp_path / "m.edgeq")
    assert runtime.load(tmp_path / "m.edgeq").verify() == 1


def test_extensions_may_stand_on_each_other_and_lie_outside(tmp_path):
    first = extension(tmp_path / "first", 'name = "first"\nextends = "arm-neon"\n[codegen]\nmcpu = "cortex-a53"\n')
    second = extension(tmp_path / "second", 'name = "second"\nextends = "../first"\ndescription = "mine"\n')
    target = load_target(str(second))
    assert (target.name, target.spec.description, target.spec.codegen.mcpu) == ("second", "mine", "cortex-a53")
    assert [folder.name for folder in target.bases] == ["first", "arm-neon"]
    assert first.is_dir()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends = 3", "must be the name of a target"),
        ('extends = "arm"', "can't extend 'arm'"),
        ('extends = "../mine"', "goes in a circle"),
        ('extends = "arm-neom"', "unknown target 'arm-neom'"),
        ('extends = "arm-neon"\n[codegen]\nsurprise = 1', "surprise"),
    ],
)
def test_extensions_that_are_wrong(text, words, tmp_path):
    with pytest.raises(TargetError, match=words):
        load_target(str(extension(tmp_path / "mine", f'name = "mine"\n{text}\n')))


@pytest.mark.parametrize(
    ("given", "offered"), [("cortex-a53", "arm-cortex-a53"), ("m4", "cortex-m4"), ("ARM_cortex_a53", "arm-cortex-a53")]
)
def test_near_names_are_offered(given, offered):
    with pytest.raises(TargetError) as caught:
        load_target(given)
    assert f"did you mean {offered!r}" in str(caught.value.hint)
