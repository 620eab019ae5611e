"""Traffic of a car's CAN bus with attacks on it, generated: every message with its time, identifier, data and label.

The legitimate side: some twenty identifiers, each sent with a period of its own (10 ms to 1 s, with jitter), whose data
bytes behave as in cars: counters, slow sensor values, flags, constants, a checksum. The attacks are those of the
public car-hacking recordings (Song, Woo, Kim, "In-vehicle network intrusion detection using deep convolutional neural
network", 2020), which arXiv 2401.11030 classifies: DoS (the identifier 0 with zeros, every 0.3 ms), fuzzing (random
identifiers and data, every 0.5 ms) and spoofing (a forged engine message beside the real one, every 1 ms). Nothing is
recorded; every number comes from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = ("normal", "dos", "fuzzing", "spoofing")
NORMAL, DOS, FUZZING, SPOOFING = range(4)
#: The identifier that spoofing forges: the engine's speed.
ENGINE = 0x316
#: Seconds between the messages of an attack, and how long one lasts and pauses.
PERIODS = {DOS: 0.0003, FUZZING: 0.0005, SPOOFING: 0.001}
BURST, PAUSE = 0.25, 0.35

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Traffic:
    """Messages in the order of their times.

    Attributes:
        seconds: float64 [n]. identifiers: int64 [n], 11 bits. data: uint8 [n, 8]. labels: int64 [n], of CLASSES.
    """

    seconds: NDArray[np.float64]
    identifiers: NDArray[np.int64]
    data: Bytes
    labels: NDArray[np.int64]


def legitimate(duration: float, rng: np.random.Generator, cars: np.random.Generator) -> list[Traffic]:
    """What the control units send: one stream per identifier.

    Args:
        duration: seconds.
        rng: decides what happens. cars: decides what car it is: identifiers, periods and layouts of the data.
    """
    others = cars.choice(np.setdiff1d(np.arange(0x80, 0x700), [ENGINE]), 21, replace=False)
    streams = []
    for identifier in (ENGINE, *others):
        period = 0.01 if identifier == ENGINE else float(cars.choice([0.01, 0.02, 0.05, 0.1, 0.2, 1.0]))
        count = max(1, int(duration / period))
        jitter = rng.normal(0, period * 0.02, count)
        seconds = np.arange(count) * period + rng.uniform(0, period) + jitter
        kinds = cars.choice(["counter", "sensor", "flags", "constant"], 7, p=[0.1, 0.4, 0.2, 0.3])
        if identifier == ENGINE:
            kinds = np.array(["constant", "flags", "sensor", "sensor", "constant", "sensor", "counter"])
        columns = [_column(str(kind), count, rng, cars) for kind in kinds]
        body = np.stack(columns, axis=1)
        checksum = (body.sum(axis=1) + identifier).astype(np.uint8)
        data = np.concatenate([body, checksum[:, None]], axis=1)
        streams.append(_labelled(seconds, np.full(count, identifier), data, NORMAL))
    return streams


def _column(kind: str, count: int, rng: np.random.Generator, cars: np.random.Generator) -> Bytes:
    """One data byte over time."""
    start = int(cars.integers(0, 256))
    if kind == "counter":
        return ((np.arange(count) + rng.integers(0, 16)) % 16).astype(np.uint8)
    if kind == "sensor":
        # A slow value between two limits that belong to the signal.
        low, high = sorted(cars.choice(np.arange(16, 240), 2, replace=False))
        path = np.cumsum(rng.normal(0, 1.5, count)) + rng.uniform(low, high)
        span = max(1, high - low)
        folded = np.abs((path - low) % (2 * span) - span)
        return (low + folded).astype(np.uint8)
    if kind == "flags":
        switches = rng.random(count) < 0.01
        return np.where(np.cumsum(switches) % 2 == 0, start & 0x0F, (start & 0x0F) ^ 0x05).astype(np.uint8)
    return np.full(count, start, np.uint8)


def attack(kind: int, start: float, stop: float, rng: np.random.Generator) -> Traffic:
    """One burst of an attack between two times."""
    count = max(1, int((stop - start) / PERIODS[kind]))
    seconds = np.sort(rng.uniform(start, stop, count)) if kind == FUZZING else np.linspace(start, stop, count)
    if kind == DOS:
        return _labelled(seconds, np.zeros(count, np.int64), np.zeros((count, 8), np.uint8), DOS)
    if kind == FUZZING:
        return _labelled(
            seconds, rng.integers(0, 0x800, count), rng.integers(0, 256, (count, 8)).astype(np.uint8), FUZZING
        )
    # The forged speed: what an attacker has seen once, with another value in the sensor bytes and no valid counter.
    data = np.tile(np.array([0x05, 0x21, 0x00, 0x00, 0x6F, 0x00, 0x00, 0xFF], np.uint8), (count, 1))
    data[:, 2] = rng.integers(200, 256)
    data[:, 3] = rng.integers(200, 256, count)
    data[:, 5] = rng.integers(0, 8, count)
    return _labelled(seconds, np.full(count, ENGINE), data, SPOOFING)


def _labelled(seconds: NDArray[np.float64], identifiers: NDArray[np.int64], data: Bytes, label: int) -> Traffic:
    return Traffic(seconds, identifiers.astype(np.int64), data, np.full(len(seconds), label))


def generate(duration: float, seed: int, car: int = 0) -> Traffic:
    """Traffic of one drive with attacks of all kinds in turn.

    Args:
        duration: seconds.
        seed: of the drive.
        car: which car; its identifiers and their data are the same in every drive.
    """
    rng = np.random.default_rng([seed, 1])
    streams = legitimate(duration, rng, np.random.default_rng([car, 2]))
    time, turn = PAUSE, 0
    while time + BURST < duration:
        streams.append(attack((DOS, FUZZING, SPOOFING)[turn % 3], time, time + BURST, rng))
        time, turn = time + BURST + PAUSE, turn + 1
    columns = [np.concatenate([getattr(stream, name) for stream in streams]) for name in Traffic.__dataclass_fields__]
    order = np.argsort(columns[0], kind="stable")
    return Traffic(*(column[order] for column in columns))


def features(traffic: Traffic) -> NDArray[np.float32]:
    """What a classifier sees of every message: bits, float32 [n, 83] of zeros and ones.

    11 bits of the identifier, 64 of the data, 8 of the time since the same identifier was last seen: bit k is set where
    that is more than 0.4 ms · 2^k.
    """
    identifier = (traffic.identifiers[:, None] >> np.arange(10, -1, -1)) & 1
    data = np.unpackbits(traffic.data, axis=1)
    waits = np.full(len(traffic.seconds), np.inf)
    for name in np.unique(traffic.identifiers):
        (places,) = np.nonzero(traffic.identifiers == name)
        waits[places[1:]] = np.diff(traffic.seconds[places])
    slow = waits[:, None] > 0.0004 * 2.0 ** np.arange(8)
    return np.concatenate([identifier, data, slow], axis=1).astype(np.float32)
