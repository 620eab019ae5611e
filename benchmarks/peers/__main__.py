"""edgeq against ONNX Runtime, OpenVINO and LiteRT: the same networks and inputs, in turns, on pinned cores.

    python -m venv peers && peers/bin/pip install -r benchmarks/peers/requirements.txt -c constraints.txt
    python benchmarks/peers --python peers/bin/python --hold-avx2 --accuracy --json peers.json --tables peers.md

Each runtime is a process of its own; in every round each one runs a burst. Ratios are medians over rounds of (peer's
time / edgeq's time): above 1 edgeq is faster. With one thread times are processor time, with several wall time. Every
runtime uses all instruction sets of the processor, edgeq those of the target (a column each); --hold-avx2 adds the
peers as they run where there is AVX2 and nothing newer. SQNR is against ONNX Runtime's fp32 on the trial samples.

Work goes in stages, and --stages chooses them, so that only `time` needs a quiet core: `prepare` quantizes and
compiles into --cache, `judge` runs the trial and evaluation samples, `time` races all sides and starts them cold.
--json takes up every stage of every network as it ends; what it already has isn't done again unless --again is given,
and networks may be measured by several commands that name the same file. `--stages` with nothing behind it measures
nothing and writes tables and plots of what --json has. README.md says how long it takes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import hold
import plot
from case import Case
from common import Zoo
from measure import STAGES, Measurement, untimed
from models import ALL, case_of
from results import Results, read, take_up
from table import markdown, summary
from turns import Side, python_of

PEERS = {
    "onnxruntime": ("fp32", "int8 static", "int8 dynamic"),
    "openvino": ("fp32", "int8 NNCF"),
    "litert": ("fp32", "int8 static"),
}


def sides_of(options: argparse.Namespace) -> list[Side]:
    """All that run, edgeq's targets first."""
    ours = [Side("edgeq", target, python_of("edgeq", options.python)) for target in options.target]
    chosen = dict.fromkeys(["onnxruntime", *options.peers])  # its fp32 is the reference of SQNR
    peers = [Side(peer, form, python_of(peer, options.python)) for peer in chosen for form in PEERS[peer]]
    if options.hold_avx2:
        extra = {peer: hold.environment(python_of(peer, options.python), peer, options.cache) for peer in chosen}
        peers += [replace(side, extra=tuple(extra[side.runtime].items()), note=" (AVX2)") for side in peers]
    return ours + peers


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="peers", description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parents[2]
    parser.add_argument("--models", nargs="+", default=list(ALL), choices=ALL, metavar="NAME", help=", ".join(ALL))
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument(
        "--stages",
        nargs="*",
        default=list(STAGES),
        metavar="STAGE",
        help=f"of {', '.join(STAGES)}; none: report --json",
    )
    parser.add_argument(
        "--target",
        nargs="+",
        default=["x86-avx2", "x86-avx2:w7", "x86-avx2:w4", "x86-vnni"],
        help="edgeq's targets; x86-avx2:w4: weights of 4 bits",
    )
    parser.add_argument("--python", help="interpreter of the environment that has the peers (default: this one)")
    parser.add_argument("--hold-avx2", action="store_true", help="peers once more without AVX-512 and VNNI (hold.py)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--cores", type=int, nargs="+", default=[0, 1, 2, 3], help="the first of them are used")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--accuracy", action="store_true", help="judge: the zoo's metric for every side, all samples")
    parser.add_argument("--zoo", type=Path, default=here.parent / "shared" / "zoo")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "edgeq-peers")
    parser.add_argument("--json", type=Path, help="results by network; read first, extended after every stage")
    parser.add_argument("--again", action="store_true", help="do what --json already has")
    parser.add_argument("--tables", type=Path, help="Markdown file to write, of all that --json has")
    parser.add_argument("--plots", type=Path, help="folder for SVG plots, of all that --json has")
    options = parser.parse_args()
    if max(options.threads) > len(options.cores):
        parser.error(f"{max(options.threads)} threads need as many --cores")
    if not set(options.stages) <= set(STAGES):
        parser.error(f"stages are {', '.join(STAGES)}")
    if not options.stages and not (options.json and options.json.is_file()):
        parser.error("without a stage there must be results in --json")
    return options


def measure(options: argparse.Namespace) -> Results:
    """All networks and stages asked for, beside what --json has."""
    done = read(options.json)
    if not options.stages:
        return done
    zoo, sides = Zoo(options.zoo), sides_of(options)
    for name in options.models:
        case: Case = case_of(name, zoo, options.cache / name)
        for threads in options.threads:
            same = [r for r in done if r["model"] == name]
            known = next((r for r in same if r["threads"] == threads), None)
            start = known or (untimed(same[0]) if same else {})
            measurement = Measurement(case, sides, options, threads, start)
            for stage in options.stages:
                measurement.run(stage)
                done = take_up(done, measurement.result, options.json)
    return done


def main() -> None:
    options = arguments()
    timed = [result for result in measure(options) if "time" in result["stages"]]
    if not timed:
        return
    text = summary(timed) + "\n" + "\n".join(markdown(result) for result in timed)
    print(text)
    if options.tables:
        options.tables.write_text(text, encoding="utf-8")
    if options.plots:
        plot.write(timed, options.plots)


if __name__ == "__main__":
    main()
