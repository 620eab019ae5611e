/* What this processor is and has. */
#if !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE 1 /* syscall */
#endif
#include "internal.h"

static const char *const X86_NAMES[] = {"avx2",       "fma",     "bmi1",     "bmi2",     "lzcnt",    "f16c",
                                        "movbe",      "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni",
                                        "avx512vbmi", "avxvnni", "avx512cd", "ssse3",    "sse41"};
static const char *const ARM_NAMES[] = {"dotprod", "i8mm", "fp16", "rdm", "lse", "bf16", "sve", "sve2"};
static const char *const ARMV7_NAMES[] = {"neon", "idiv"};
static const char *const RISCV_NAMES[] = {"v"};

#define COUNT(names) (sizeof(names) / sizeof *(names))

const char *edgeq_cpu_feature_name(uint32_t arch, uint32_t bit) {
  switch (arch) {
  case EDGEQ_ARCH_X86_64:
    return bit < COUNT(X86_NAMES) ? X86_NAMES[bit] : NULL;
  case EDGEQ_ARCH_AARCH64:
    return bit < COUNT(ARM_NAMES) ? ARM_NAMES[bit] : NULL;
  case EDGEQ_ARCH_ARMV7:
    return bit < COUNT(ARMV7_NAMES) ? ARMV7_NAMES[bit] : NULL;
  case EDGEQ_ARCH_RISCV64:
    return bit < COUNT(RISCV_NAMES) ? RISCV_NAMES[bit] : NULL;
  default:
    return NULL;
  }
}

#if defined(__x86_64__)

#include <cpuid.h>

/* The operating system must save the registers too: XCR0 tells which it saves. */
static uint64_t saved_register_sets(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

static uint64_t bit_if(uint32_t word, int bit, uint64_t feature) {
  return (word >> bit & 1) ? feature : 0;
}

static uint64_t avx512_features(uint32_t ebx, uint32_t ecx) {
  return bit_if(ebx, 16, EDGEQ_X86_AVX512F) | bit_if(ebx, 17, EDGEQ_X86_AVX512DQ) |
         bit_if(ebx, 28, EDGEQ_X86_AVX512CD) | bit_if(ebx, 30, EDGEQ_X86_AVX512BW) |
         bit_if(ebx, 31, EDGEQ_X86_AVX512VL) | bit_if(ecx, 1, EDGEQ_X86_AVX512VBMI) |
         bit_if(ecx, 11, EDGEQ_X86_AVX512VNNI);
}

uint32_t edgeq_host_arch(void) {
  return EDGEQ_ARCH_X86_64;
}

/* Bits as in Intel's Software Developer's Manual, volume 2A, CPUID. */
uint64_t edgeq_host_cpu_features(void) {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  uint64_t found = 0;
  if (__get_cpuid(0x80000001u, &eax, &ebx, &ecx, &edx)) {
    found |= bit_if(ecx, 5, EDGEQ_X86_LZCNT);
  }
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) {
    return found;
  }
  const uint32_t base = ecx;
  found |= bit_if(base, 22, EDGEQ_X86_MOVBE) | bit_if(base, 9, EDGEQ_X86_SSSE3) | bit_if(base, 19, EDGEQ_X86_SSE41);
  const uint64_t saved = (base >> 27 & 1) ? saved_register_sets() : 0;
  const int has_ymm = (saved & 0x6) == 0x6, has_zmm = (saved & 0xe6) == 0xe6;
  if (has_ymm) {
    found |= bit_if(base, 12, EDGEQ_X86_FMA) | bit_if(base, 29, EDGEQ_X86_F16C);
  }
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    return found;
  }
  const uint32_t last_subleaf = eax;
  found |= bit_if(ebx, 3, EDGEQ_X86_BMI1) | bit_if(ebx, 8, EDGEQ_X86_BMI2);
  found |= has_ymm ? bit_if(ebx, 5, EDGEQ_X86_AVX2) : 0;
  found |= has_zmm ? avx512_features(ebx, ecx) : 0;
  if (has_ymm && last_subleaf >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) {
    found |= bit_if(eax, 4, EDGEQ_X86_AVXVNNI);
  }
  return found;
}

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

uint32_t edgeq_host_arch(void) {
  return EDGEQ_ARCH_AARCH64;
}

/* Bits as in the kernel's Documentation/arch/arm64/elf_hwcaps.rst; numbers, because older headers lack some names. */
uint64_t edgeq_host_cpu_features(void) {
  const unsigned long capabilities = getauxval(16 /* AT_HWCAP */), more = getauxval(26 /* AT_HWCAP2 */);
  uint64_t found = 0;
  found |= (capabilities >> 20 & 1) ? EDGEQ_ARM_DOTPROD : 0;
  found |= (capabilities >> 10 & 1) ? EDGEQ_ARM_FP16 : 0;
  found |= (capabilities >> 12 & 1) ? EDGEQ_ARM_RDM : 0;
  found |= (capabilities >> 8 & 1) ? EDGEQ_ARM_LSE : 0;
  found |= (capabilities >> 22 & 1) ? EDGEQ_ARM_SVE : 0;
  found |= (more >> 1 & 1) ? EDGEQ_ARM_SVE2 : 0;
  found |= (more >> 13 & 1) ? EDGEQ_ARM_I8MM : 0;
  found |= (more >> 14 & 1) ? EDGEQ_ARM_BF16 : 0;
  return found;
}

#elif defined(__arm__) && defined(__linux__)

#include <sys/auxv.h>

uint32_t edgeq_host_arch(void) {
  return EDGEQ_ARCH_ARMV7;
}

/* Bits of AT_HWCAP as in the kernel's arch/arm/include/uapi/asm/hwcap.h; division in both instruction sets. */
uint64_t edgeq_host_cpu_features(void) {
  const unsigned long capabilities = getauxval(16 /* AT_HWCAP */);
  uint64_t found = 0;
  found |= (capabilities >> 12 & 1) ? EDGEQ_ARMV7_NEON : 0;
  found |= (capabilities >> 17 & 3) == 3 ? EDGEQ_ARMV7_IDIV : 0;
  return found;
}

#elif defined(__riscv) && __riscv_xlen == 64 && defined(__linux__)

#include <sys/auxv.h>
#include <unistd.h>

uint32_t edgeq_host_arch(void) {
  return EDGEQ_ARCH_RISCV64;
}

/* riscv_hwprobe (Linux 6.4) tells vectors of version 1.0 from drafts, which the letter V in AT_HWCAP doesn't; where the
 * call is missing the letter has to do. */
uint64_t edgeq_host_cpu_features(void) {
  struct {
    int64_t key;
    uint64_t value;
  } pair = {4 /* RISCV_HWPROBE_KEY_IMA_EXT_0 */, 0};
  if (syscall(258 /* riscv_hwprobe */, &pair, 1L, 0L, NULL, 0L) == 0 && pair.key == 4) {
    return (pair.value >> 2 & 1) ? EDGEQ_RISCV_V : 0;
  }
  return (getauxval(16 /* AT_HWCAP */) >> ('V' - 'A') & 1) ? EDGEQ_RISCV_V : 0;
}

#else

uint32_t edgeq_host_arch(void) {
  return 0;
}

uint64_t edgeq_host_cpu_features(void) {
  return 0;
}

#endif
