"""The networks to run, as cases in a cache folder: the zoo's, and published architectures with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from case import Case
from common import CNNS, TRANSFORMERS, Zoo

BUILT = ("resnet18", "resnet50", "mobilenet_v2", "deit_tiny_224", "minilm_l6_128")
ALL = (*BUILT, *CNNS, *TRANSFORMERS)
CALIBRATION, TRIAL = 32, 16
PUBLISHED = {"mobilenet_v2_100_imagenet_deq": "mobilenet_v2_100_imagenet_ptq_coral"}


def case_of(name: str, zoo: Zoo, folder: Path) -> Case:
    """The case of a network; exports it where it is built here."""
    folder.mkdir(parents=True, exist_ok=True)
    calibration, trial, model = (folder / f for f in ("calibration.npz", "trial.npz", "model.onnx"))
    if name in BUILT:
        from networks import build, export, samples

        if not model.is_file():
            part = folder / "model.onnx.part"
            export(build(name), samples(name), part)
            part.rename(model)
        given = samples(name, CALIBRATION + TRIAL)
        np.savez(calibration, **{key: x[:CALIBRATION] for key, x in given.items()})
        np.savez(trial, **{key: x[CALIBRATION:] for key, x in given.items()})
        return Case(name, str(model), str(calibration), str(trial), network=name)
    given = zoo.module.calibration(name, CALIBRATION + TRIAL)
    np.savez(calibration, **{key: x[:CALIBRATION] for key, x in given.items()})
    np.savez(trial, **{key: x[CALIBRATION:] for key, x in given.items()})
    published = zoo.folder / "reference_int8" / f"{PUBLISHED.get(name, name)}.tflite"
    tflite = str(published) if published.is_file() else None
    return Case(name, str(zoo.model(name)), str(calibration), str(trial), tflite=tflite)
