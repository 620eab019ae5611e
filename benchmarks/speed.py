"""Speed of host artifacts against ONNX Runtime fp32, interleaved in one process, one thread.

    taskset -c 1 python benchmarks/speed.py --out speed.json

Two ratios a model, medians over rounds, above 1 means the artifact is faster: float in and float out on both sides, and
the artifact with integers in and out. Processor time of the one thread, so that other programs' turns don't count.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from common import Zoo, arguments, finish, say

import edgeq
from edgeq.evaluate.speed import race


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--targets", nargs="+", default=["host"], help="for example: x86-avx2 x86-vnni")
    args = parser.parse_args()
    zoo = Zoo(args.zoo)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            calib = zoo.calibration(name, 8, Path(folder))
            for target in args.targets:
                artifact = Path(folder) / f"{name}-{target}.edgeq"
                result = edgeq.compile(zoo.model(name), target=target, calib=calib, output=artifact)
                times = race(artifact, zoo.model(name), data=calib, repeats=args.repeats, threads=args.threads)
                rows.append({"model": name, "target": result.target, "threads": args.threads, **times})
                say(
                    f"{name:<32} {result.target:<10} {times['ratio']:.2f}x float, {times['ratio_integer']:.2f}x integer"
                )
    finish("speed", rows, args.out)


if __name__ == "__main__":
    main()
