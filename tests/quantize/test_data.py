from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeq.errors import DataError
from edgeq.quantize.samples.data import InputSpec, from_arrays, load, random_data
from edgeq.quantize.samples.preprocess import Preprocess, load_image

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
ONE = (InputSpec("image", (1, 3, 4, 5), F32),)
TWO = (InputSpec("ids", (2, 7), I64), InputSpec("mask", (2, 7), F32))
GOOD = np.ones((9, 3, 4, 5), np.float32)


def test_samples_become_feeds() -> None:
    data = from_arrays(ONE, {"image": np.arange(9 * 60).reshape(9, 3, 4, 5)})
    assert (len(data), data.runs) == (9, 9)
    assert data.feed(2)["image"].shape == (1, 3, 4, 5)
    assert data.feed(2)["image"].dtype == np.float32
    assert data.feed(2)["image"].flat[0] == 120
    assert len(list(data.feeds(4))) == 4
    assert data.warnings == ()


def test_batches_are_filled_and_wrap() -> None:
    data = from_arrays(TWO, {"ids": np.arange(63).reshape(9, 7), "mask": np.ones((9, 7))})
    assert data.runs == 5
    assert data.feed(4)["ids"][:, 0].tolist() == [56, 0]


def test_full_shape_behind_the_sample_axis() -> None:
    assert len(from_arrays(ONE, {"image": GOOD[:, None]})) == 9


def test_limit() -> None:
    assert len(from_arrays(ONE, {"image": GOOD}, limit=8)) == 8


def test_few_samples_warn() -> None:
    data = from_arrays(ONE, {"image": GOOD[:1]})
    assert "only 1 calibration sample:" in data.warnings[0]


def nan() -> np.ndarray:
    array = GOOD.copy()
    array[3, 1, 2, 0] = np.nan
    return array


@pytest.mark.parametrize(
    ("specs", "arrays", "message"),
    [
        (ONE, {"images": GOOD}, "did you mean 'image'"),
        (ONE, {"image": GOOD, "what": GOOD}, "no input 'what'"),
        (ONE, {}, "data for input 'image' is missing"),
        (TWO, {"ids": np.ones((9, 7), int)}, "input 'mask' is missing"),
        (TWO, {"ids": np.ones((9, 7), int), "mask": np.ones((8, 7))}, "different numbers of samples"),
        (TWO, {"ids": np.ones((9, 7)), "mask": np.ones((9, 7))}, "the input takes int64, the data is float64"),
        (ONE, {"image": GOOD[:, :2]}, r"expected \[samples, 3, 4, 5\], got \[9, 2, 4, 5\]"),
        (ONE, {"image": GOOD[0]}, "a sample axis in front is missing"),
        (ONE, {"image": GOOD.transpose(0, 2, 3, 1)}, "channels-last"),
        (ONE, {"image": nan()}, r"the value at \[3, 1, 2, 0\] is nan"),
        (ONE, {"image": np.full_like(GOOD, np.inf)}, "NaN or infinity"),
        (ONE, {"image": GOOD[:0]}, "no calibration samples"),
        (ONE, {"image": GOOD.astype("U4")}, "not numeric"),
        (ONE, {"image": GOOD.astype(complex)}, "not numeric"),
    ],
)
def test_faults_are_explained(specs: tuple[InputSpec, ...], arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_arrays(specs, arrays)


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    np.savez(path, image=GOOD, y=np.arange(9))
    assert len(load(path, ONE)) == 9
    np.savez(path, x=GOOD)
    assert len(load(path, ONE, limit=8)) == 8
    np.savez(path, ids=np.ones((9, 7), int), mask=np.ones((9, 7)))
    assert len(load(path, TWO)) == 9
    np.savez(path, pictures=GOOD)
    with pytest.raises(DataError, match="no input 'pictures'"):
        load(path, ONE)


def test_npy_and_folder_of_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", GOOD)
    assert len(load(tmp_path / "all.npy", ONE)) == 9
    folder = tmp_path / "samples"
    folder.mkdir()
    for i in range(8):
        np.save(folder / f"{i}.npy", np.full((1, 3, 4, 5) if i % 2 else (3, 4, 5), i, np.float32))
    data = load(folder, ONE)
    assert data.arrays["image"][:, 0, 0, 0].tolist() == list(range(8))
    np.save(folder / "9.npy", np.ones((3, 4, 6), np.float32))
    with pytest.raises(DataError, match="different shapes"):
        load(folder, ONE)
    with pytest.raises(DataError, match="several inputs"):
        load(folder, TWO)


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"\.npy file can't be read"):
        load(tmp_path / "evil.npy", ONE)
    np.savez(tmp_path / "evil.npz", image=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"\.npz file can't be read"):
        load(tmp_path / "evil.npz", ONE)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_broken_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not numpy at all")
    with pytest.raises(DataError, match="can't be read"):
        load(tmp_path / name, ONE)
    np.savez(tmp_path / "whole.npz", image=GOOD)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:900])
    with pytest.raises(DataError, match="can't be read"):
        load(tmp_path / "cut.npz", ONE)


def test_missing_empty_and_unknown(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no calibration data"):
        load(tmp_path / "nothing", ONE)
    with pytest.raises(DataError, match="the folder holds no calibration data"):
        load(tmp_path, ONE)
    (tmp_path / "c.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"the suffix is \.csv"):
        load(tmp_path / "c.csv", ONE)


def test_random_is_seeded_and_marked() -> None:
    data, again = random_data(TWO, seed=3), load("random", TWO, seed=3)
    assert not data.calibrated
    assert "random data" in data.warnings[0]
    assert np.array_equal(data.arrays["mask"], again.arrays["mask"])
    assert data.arrays["ids"].dtype == np.int64


def picture(path: Path, width: int = 8, height: int = 6) -> Path:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = 255, 51
    Image.fromarray(pixels).save(path)
    return path


def test_folder_of_images(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.png", 8 + i)
    with pytest.raises(DataError, match="images need a preprocessing specification"):
        load(tmp_path, ONE)
    with pytest.raises(DataError, match="different shapes"):
        load(tmp_path, ONE, preprocess=Preprocess())
    data = load(tmp_path, ONE, preprocess=Preprocess.parse("size: 4, crop: [4, 5]"))
    assert data.arrays["image"].shape == (3, 3, 4, 5)
    assert data.arrays["image"][0, :, 0, 0] == pytest.approx([1, 0, 0.2])


def test_image_options(tmp_path: Path) -> None:
    path = picture(tmp_path / "p.png")
    spec = Preprocess(size=(2, 3), mean=[0.5, 0, 0], std=[0.5, 1, 2], color="bgr")
    assert load_image(path, spec)[:, 0, 0] == pytest.approx([(0.2 - 0.5) / 0.5, 0, 0.5])
    assert load_image(path, Preprocess(layout="nhwc", scale=1.0)).shape == (6, 8, 3)
    assert load_image(path, Preprocess(color="gray")).shape == (1, 6, 8)


def test_image_faults(tmp_path: Path) -> None:
    path = picture(tmp_path / "p.png")
    with pytest.raises(DataError, match="smaller than the crop"):
        load_image(path, Preprocess(crop=7))
    with pytest.raises(DataError, match="2 values for 3 channels"):
        load_image(path, Preprocess(mean=[1.0, 2.0]))
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="image can't be read"):
        load_image(path, Preprocess())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{size: 4, corp: 3}", "corp"),
        ("{size: big}", "size"),
        ("{layout: chw}", "layout"),
        ("[1, 2]", "not a mapping"),
        ("{size: [}", "not YAML"),
        ("missing.yaml", "missing"),
    ],
)
def test_preprocess_faults(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        Preprocess.parse(text)


def test_preprocess_file(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("size: 8\nmean: 0.5\n")
    assert Preprocess.parse(file) == Preprocess(size=8, mean=0.5)
    assert Preprocess.parse(str(file)) == Preprocess(size=8, mean=0.5)
