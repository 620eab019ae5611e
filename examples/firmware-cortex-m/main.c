/* A firmware without an operating system: reads an input from a file of the host (semihosting), runs the network,
 * prints its outputs. Built by build.sh together with cpp_runtime/firmware/startup.c. */
#include <stdint.h>

#include "digits.h"
#include "semihost.h"

DIGITS_ARENA(arena);

void edgeq_exit(int code) __attribute__((noreturn));
void edgeq_exit(int code) {
  edgeq_semihost_exit(code);
}

/* Reads a whole input from `path` (raw int8); returns 0, or 1 where the file is missing or too short. */
static int read_input(const char *path, void *to, uint32_t size) {
  const uint32_t open_block[3] = {(uint32_t)path, 1u /* "rb" */, (uint32_t)__builtin_strlen(path)};
  const intptr_t file = edgeq_semihost(0x01, open_block);
  if (file < 0) {
    return 1;
  }
  const uint32_t read_block[3] = {(uint32_t)file, (uint32_t)to, size};
  return edgeq_semihost(0x06, read_block) != 0; /* bytes that were not read */
}

int main(void) {
  if (read_input("input.bin", digits_input(arena), DIGITS_INPUT_ELEMENTS)) {
    edgeq_print("input.bin is missing or too short\n");
    return 1;
  }
  digits_run(arena);
  for (uint32_t i = 0; i < DIGITS_OUTPUT_ELEMENTS; i++) {
    edgeq_print_number(digits_output(arena)[i]);
    edgeq_print(i + 1 < DIGITS_OUTPUT_ELEMENTS ? " " : "\n");
  }
  return 0;
}
