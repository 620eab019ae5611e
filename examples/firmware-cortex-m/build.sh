#!/bin/sh
# Builds the firmware for an emulated board: build.sh mps2-an386|mps3-an547 LIBRARY_FOLDER OUTPUT.elf
# The library: edgeq compile digits.onnx --target cortex-m4 (or cortex-m55) --calib calib.npz --name digits -o LIBRARY_FOLDER
# Run it: qemu-system-arm -M BOARD -nographic -monitor none -serial none -semihosting-config enable=on,target=native -kernel OUTPUT.elf
set -eu
case "$1" in
  mps2-an386) cpu="-mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16" ;;
  mps3-an547) cpu="-mcpu=cortex-m55 -mfloat-abi=hard" ;;
  *) echo "unknown board $1" >&2; exit 2 ;;
esac
here=$(dirname "$0")
runtime="$here/../../cpp_runtime"
# shellcheck disable=SC2086
arm-none-eabi-gcc $cpu -mthumb -O2 -Wall -Wextra -Werror -ffreestanding -nostartfiles -Wl,--gc-sections \
  -I"$2" -I"$runtime/firmware" "$here/main.c" "$runtime/firmware/startup.c" "$2/libdigits.a" \
  -T "$runtime/firmware/cortex-m.ld" -Wl,--defsym=FLASH_ORIGIN=0 -Wl,--defsym=FLASH_LENGTH=0x80000 \
  -Wl,--defsym=RAM_ORIGIN=0x20000000 -Wl,--defsym=RAM_LENGTH=0x80000 --specs=nosys.specs -o "$3"
