#!/bin/sh
# Makes an Arduino library (header and precompiled archive) of a static library: pack.sh LIBRARY_FOLDER CPU OUTPUT_FOLDER
# CPU: the board's build.mcu, as in cortex-m4. The library: edgeq compile digits.onnx --target cortex-m4 --calib calib.npz
# --name digits -o LIBRARY_FOLDER. Put OUTPUT_FOLDER into the sketchbook's `libraries`, or zip it. For boards with several
# processors call it once for each, with the same OUTPUT_FOLDER.
set -eu
[ $# = 3 ] && [ -f "$1/libdigits.a" ] || { echo "usage: pack.sh LIBRARY_FOLDER CPU OUTPUT_FOLDER" >&2; exit 2; }
mkdir -p "$3/src/$2" "$3/examples/Digits"
cp "$1/digits.h" "$1/edgeq_static.h" "$3/src/"
cp "$1/libdigits.a" "$3/src/$2/"
cp "$(dirname "$0")/Digits.ino" "$3/examples/Digits/"
cat > "$3/library.properties" <<END
name=Digits
version=1.0.0
author=edgeq
maintainer=edgeq
sentence=Reads a digit of 8 x 8 pixels.
paragraph=A quantized network, compiled by edgeq: integers only, no heap.
category=Data Processing
url=
architectures=*
includes=digits.h
precompiled=full
ldflags=-ldigits
END
