"""From a picture to a model's input: the small specification and the one function that carries it out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeq.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".gif", ".tif", ".tiff"})


class Preprocess(BaseModel):
    """How a picture becomes an input: resize, crop, order colours, (pixel · scale − mean) / std, order axes.

    Attributes:
        size: resize: one number = length of the shorter side, two = exact [height, width]; none = leave.
        crop: centre crop, one number (square) or [height, width].
        scale: factor on the 0–255 pixels.
        mean, std: after scaling, one number or one per channel.
        layout: nchw or nhwc.
        color: rgb, bgr or gray.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    scale: float = Field(1 / 255, gt=0)
    mean: float | list[float] = 0.0
    std: float | list[float] = 1.0
    layout: Literal["nchw", "nhwc"] = "nchw"
    color: Literal["rgb", "bgr", "gray"] = "rgb"

    @classmethod
    def parse(cls, text: str | Path) -> Preprocess:
        """Read a YAML file, or YAML given inline (`{size: 256, crop: 224}`, the braces may be left out).

        Raises:
            DataError: not a mapping, unknown key, or a value of the wrong kind.
        """
        content, where = _content(text)
        try:
            fields = yaml.safe_load(content)
        except yaml.YAMLError as error:
            raise DataError("the preprocessing specification is not YAML", where=where, why=str(error)) from error
        if not isinstance(fields, dict):
            raise DataError(
                "the preprocessing specification is not a mapping",
                where=where,
                hint="write {size: 256, crop: 224, mean: 0.5, std: 0.5}",
            )
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(
                "the preprocessing specification is wrong",
                where=f"{where}, {'.'.join(str(part) for part in first['loc'])}",
                why=str(first["msg"]),
                hint=f"known keys: {', '.join(cls.model_fields)}",
            ) from error


def _content(text: str | Path) -> tuple[str, str]:
    raw = str(text).strip()
    if isinstance(text, Path) or raw.endswith((".yaml", ".yml")):
        path = Path(text)
        if not path.is_file():
            raise DataError("the preprocessing specification is missing", where=str(path), why="no such file")
        return path.read_text(encoding="utf-8"), str(path)
    inline = raw if raw.startswith(("{", "[")) or "\n" in raw else "{" + raw + "}"
    return inline, "preprocessing specification"


def load_image(path: Path, spec: Preprocess) -> NDArray[np.float32]:
    """One picture as float32 [C, H, W] (or [H, W, C]).

    Raises:
        DataError: unreadable, smaller than the crop, or mean/std that don't fit the channels.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            image = file.convert("L" if spec.color == "gray" else "RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DataError("an image can't be read", where=str(path), why=str(error)) from error
    image = _resize(image, spec.size)
    pixels = np.asarray(image, dtype=np.float32)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    pixels = _crop(pixels, spec.crop, path)
    if spec.color == "bgr":
        pixels = pixels[:, :, ::-1]
    channels = pixels.shape[2]
    mean, std = _per_channel(spec.mean, channels, "mean", path), _per_channel(spec.std, channels, "std", path)
    values = (pixels * np.float32(spec.scale) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1) if spec.layout == "nchw" else values, dtype=np.float32)


def _resize(image: Any, size: int | tuple[int, int] | None) -> Any:
    from PIL import Image

    if size is None:
        return image
    if isinstance(size, tuple):
        return image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    factor = size / min(image.width, image.height)
    target = (max(size, round(image.width * factor)), max(size, round(image.height * factor)))
    return image.resize(target, Image.Resampling.BILINEAR)


def _crop(pixels: NDArray[np.float32], crop: int | tuple[int, int] | None, path: Path) -> NDArray[np.float32]:
    if crop is None:
        return pixels
    height, width = (crop, crop) if isinstance(crop, int) else crop
    if pixels.shape[0] < height or pixels.shape[1] < width:
        raise DataError(
            "an image is smaller than the crop",
            where=str(path),
            why=f"{pixels.shape[0]}×{pixels.shape[1]} (height × width) against {height}×{width}",
            hint="set `size` to resize first",
        )
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def _per_channel(value: float | list[float], channels: int, key: str, path: Path) -> NDArray[np.float32]:
    array = np.asarray(value, dtype=np.float32).reshape(-1)
    if array.size not in (1, channels):
        raise DataError(
            f"`{key}` of the preprocessing specification does not fit",
            where=str(path),
            why=f"{array.size} values for {channels} channels",
            hint="give one number or one per channel",
        )
    return array
