#!/bin/sh
# What `make demo` shows: one model, two targets, accuracy against fp32, sizes. Every command is printed before it runs.
set -eu
cd "$(dirname "$0")/../.."
out=build/demo
data=examples/digits
mkdir -p "$out"

step() {
  echo
  echo "\$ $*"
  "$@"
}

step edgeq compile $data/digits.onnx --target host --calib $data/calib.npz -o $out/digits-host.edgeq
step edgeq compile $data/digits.onnx --target arm --calib $data/calib.npz -o $out/digits-arm.edgeq
step edgeq eval $out/digits-host.edgeq --data $data/eval.npz --metric top1 --reference $data/digits.onnx
if command -v qemu-aarch64 >/dev/null 2>&1; then
  step edgeq eval $out/digits-arm.edgeq --data $data/eval.npz --metric top1 --reference $data/digits.onnx
  step edgeq compare $out/digits-host.edgeq $out/digits-arm.edgeq --input $data/eval.npz --samples 597
else
  echo
  echo "The arm artifact is built, but nothing here can run it: apt-get install qemu-user"
fi
step edgeq bench $out/digits-host.edgeq --against $data/digits.onnx
