#!/bin/sh
# Installs the tools that the tests use and this machine lacks, from apt. Without the rights to do so it names what is
# missing and succeeds: those tests are then skipped, and fail where CI=true. A browser is wanted, not needed.
missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need qemu-aarch64 qemu-user
need qemu-system-arm qemu-system-arm
need arm-none-eabi-gcc gcc-arm-none-eabi
need cmake cmake
need node nodejs
need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
need arm-linux-gnueabihf-gcc gcc-arm-linux-gnueabihf
need riscv64-linux-gnu-gcc gcc-riscv64-linux-gnu
need c++ g++
browser=""
command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || browser="chromium"
[ -z "$missing$browser" ] && exit 0

elevate=""
if [ "$(id -u)" != 0 ]; then
  if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then elevate="sudo"; else elevate="none"; fi
fi
if [ "$elevate" != none ] && command -v apt-get >/dev/null 2>&1; then
  export DEBIAN_FRONTEND=noninteractive
  echo "installing$missing $browser"
  $elevate apt-get update -qq || true
  # Not every distribution has it under this name; the pages' browser tests aren't there without one.
  [ -z "$browser" ] || $elevate apt-get install -y -qq "$browser" >/dev/null 2>&1 || echo "no package $browser here" >&2
  # shellcheck disable=SC2086
  { [ -z "$missing" ] || $elevate apt-get install -y -qq $missing >/dev/null; } && exit 0
fi
[ -z "$missing" ] && exit 0
echo "missing:$missing (to install: sudo apt-get install$missing). What needs them is skipped." >&2
exit 0
