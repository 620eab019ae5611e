"""What the image packer refuses, and that packing loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.artifact import Golden, ModelImage, StepInfo, TensorInfo
from edgeq.artifact import format as layout
from edgeq.artifact.image import pack_image
from edgeq.artifact.read import _parse_image
from edgeq.errors import CompileError
from tests.support.fakes import fake_image

Change = Callable[[ModelImage], None]


def set_field(name: str, value: object) -> Change:
    return lambda image: setattr(image, name, value)


def set_input(**values: object) -> Change:
    return lambda image: image.inputs.__setitem__(0, replace(image.inputs[0], **values))


BAD_IMAGES: list[tuple[Change, str]] = [
    (set_field("steps", []), "at least one step"),
    (set_field("outputs", []), "at least one output"),
    (set_field("max_threads", 0), "max_threads is 0"),
    (set_field("max_threads", 65), "max_threads is 65"),
    (set_field("arena_size", 0), "arena_size is 0"),
    (set_field("steps", [StepInfo("s", "k", 0)]), "out of range"),
    (set_field("steps", [StepInfo("s", "k", 1, macs=-1)]), "out of range"),
    (lambda image: image.outputs.append(image.outputs[0]), "same name"),
    (set_input(dtype="float64"), "dtype float64"),
    (set_input(shape=(1,) * 9), "shape"),
    (set_input(shape=(0, 3)), "shape"),
    (set_input(strides=(1,)), "strides"),
    (set_input(strides=(24, -1)), "strides"),
    (set_input(scale=0.0), "scale 0.0"),
    (set_input(scale=float("nan")), "scale nan"),
    (set_input(zero_point=128), "zero point 128"),
    (set_input(dtype="uint8", zero_point=3, storage_bias=0x80), "storage bias"),
    (set_input(storage_bias=3), "storage bias"),
    (set_input(dtype="int16", offset=1), "multiple of the item size"),
    (set_input(offset=4090), "of an arena of 4096"),
    (set_input(strides=(4096, 1)), "of an arena of 4096"),
    (set_field("golden", [Golden([], [])]), "0 arrays for 1 tensors"),
    (set_field("golden", [Golden([np.zeros((2, 2), np.int8)], [])]), "doesn't fit its tensor"),
]


@pytest.mark.parametrize(("change", "message"), BAD_IMAGES, ids=[message for _, message in BAD_IMAGES])
def test_bad_images_are_refused(change: Change, message: str) -> None:
    image = fake_image()
    change(image)
    with pytest.raises(CompileError, match=message):
        pack_image(image)


def test_tables_are_aligned_and_weights_end_with_slack() -> None:
    packed = pack_image(fake_image())
    header = layout.IMAGE.unpack(memoryview(packed))
    assert header["weights"] % layout.ALIGNMENT == 0
    assert header["image_size"] - header["weights"] - header["weights_size"] >= layout.ALIGNMENT


def test_grain_is_one_for_large_steps_and_all_tasks_for_small_ones() -> None:
    image = fake_image()
    image.steps = [StepInfo("large", "Conv", 100, macs=10**9), StepInfo("small", "Add", 100, bytes=1000)]
    steps = _parse_image(memoryview(bytes(pack_image(image)))).steps
    assert [step.grain for step in steps] == [1, 100]


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(
    step=st.builds(
        StepInfo,
        names,
        names,
        st.integers(1, 2**31 - 1),
        st.integers(0, 2**60),
        st.integers(0, 2**60),
        st.integers(1, 2**31 - 1),
    ),
    tensor=st.builds(
        TensorInfo,
        names,
        st.sampled_from(list(layout.DTYPES)),
        st.lists(st.integers(1, 4), max_size=8).map(tuple),
        st.integers(0, 100).map(lambda value: 8 * value),
        st.floats(1e-30, 1e30),
        st.integers(0, 127),
        layout=names,
    ),
    weights=st.binary(max_size=200),
    manifest=st.dictionaries(names, names | st.integers()),
)
def test_round_trip(step: StepInfo, tensor: TensorInfo, weights: bytes, manifest: dict[str, object]) -> None:
    golden = Golden([], [np.full(tensor.shape, 3, tensor.dtype)])
    image = ModelImage([step], [], [tensor], 10**6, weights, 3, manifest, [golden, golden])
    back = _parse_image(memoryview(bytes(pack_image(image))))
    assert back.steps == image.steps
    assert back.outputs == [replace(tensor, strides=tensor.element_strides)]
    assert bytes(back.weights) == weights
    assert back.manifest == manifest
    assert (back.arena_size, back.max_threads) == (10**6, 3)
    assert [np.array_equal(v.outputs[0], golden.outputs[0]) for v in back.golden] == [True, True]
