/* Arm semihosting: how a firmware under an emulator or a debugger writes text, reads its arguments and ends. */
#ifndef EDGEQ_SEMIHOST_H
#define EDGEQ_SEMIHOST_H

#include <stdint.h>

static inline intptr_t edgeq_semihost(intptr_t operation, const void *argument) {
  register intptr_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

/* Writes NUL-terminated text. */
static inline void edgeq_print(const char *text) {
  edgeq_semihost(0x04, text);
}

/* Writes a number in decimal. */
static inline void edgeq_print_number(int32_t number) {
  char text[12];
  char *at = text + sizeof text - 1;
  uint32_t rest = number < 0 ? 0u - (uint32_t)number : (uint32_t)number;
  *at = '\0';
  do {
    *--at = (char)('0' + rest % 10);
    rest /= 10;
  } while (rest != 0);
  if (number < 0) {
    *--at = '-';
  }
  edgeq_print(at);
}

/* Ends the emulator with an exit code. */
__attribute__((noreturn)) static inline void edgeq_semihost_exit(int code) {
  const uint32_t block[2] = {0x20026u, (uint32_t)code}; /* ADP_Stopped_ApplicationExit */
  for (;;) {
    edgeq_semihost(0x20, block);
  }
}

#endif
