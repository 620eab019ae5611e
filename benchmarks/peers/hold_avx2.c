/* Answers CPUID as a processor with AVX2 and nothing newer would; loaded ahead of a runtime whose CPUID instructions
 * hold.py replaced by an opcode that is invalid in 64-bit mode. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

enum { MARK = 0x06 }; /* first byte of what stands in place of CPUID */

/* Leaf 7: AVX-512 in all its parts, its VNNI, BF16, FP16, AMX. Leaf 7.1: AVX-VNNI, AVX-IFMA, AMX, AVX10. */
static const unsigned EBX = 1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31;
static const unsigned ECX = 1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14;
static const unsigned EDX = 1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25;
static const unsigned EAX_1 = 1u << 4 | 1u << 5 | 1u << 21 | 1u << 23;
static const unsigned EDX_1 = 1u << 4 | 1u << 5 | 1u << 10 | 1u << 19;

static void on_illegal(int number, siginfo_t *info, void *context) {
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const unsigned char *code = (const unsigned char *)registers[REG_RIP];
  (void)info;
  if (code[0] != MARK) { /* a real one: the default action, when it is executed again */
    signal(number, SIG_DFL);
    return;
  }
  unsigned leaf = (unsigned)registers[REG_RAX], part = (unsigned)registers[REG_RCX], a, b, c, d;
  __cpuid_count(leaf, part, a, b, c, d);
  if (leaf == 7 && part == 0) {
    b &= ~EBX;
    c &= ~ECX;
    d &= ~EDX;
  } else if (leaf == 7 && part == 1) {
    a &= ~EAX_1;
    d &= ~EDX_1;
  }
  registers[REG_RAX] = a;
  registers[REG_RBX] = b;
  registers[REG_RCX] = c;
  registers[REG_RDX] = d;
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void install(void) {
  struct sigaction action = {0};
  action.sa_sigaction = on_illegal;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGILL, &action, NULL);
}
