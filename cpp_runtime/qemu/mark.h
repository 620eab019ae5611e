/* Two instructions that do nothing on any processor and that the counting plugin recognizes. */
#ifndef EDGEQ_MARK_H
#define EDGEQ_MARK_H

/* Arm: the unallocated hints 75 and 76. RISC-V: slti zero, zero, 75 and 76, hints too. x86-64: nopl with a displacement
 * that nobody else uses. */
#define EDGEQ_HINT(number) (0xd503201fu | (number) << 5)
#define EDGEQ_HINT_ARM(number) (0xe320f000u | (number))
#define EDGEQ_HINT_RISCV(number) (0x00002013u | (number) << 20)
enum { EDGEQ_HINT_BEGIN = 75, EDGEQ_HINT_END = 76, EDGEQ_NOP_BEGIN = 0x0e09e901, EDGEQ_NOP_END = 0x0e09e902 };

/* Thumb: the same two hints, as a 32-bit instruction (Armv6-M lacks it; QEMU's Cortex-M3 has it). */
#define EDGEQ_THUMB_HINT(number) (0x8000f3afu | (number) << 16)

#if defined(__thumb__)
#define EDGEQ_MARK_BEGIN() __asm__ volatile(".inst.w 0xf3af804b" ::: "memory")
#define EDGEQ_MARK_END() __asm__ volatile(".inst.w 0xf3af804c" ::: "memory")
#elif defined(__aarch64__)
#define EDGEQ_MARK_BEGIN() __asm__ volatile("hint #75" ::: "memory")
#define EDGEQ_MARK_END() __asm__ volatile("hint #76" ::: "memory")
#elif defined(__arm__)
#define EDGEQ_MARK_BEGIN() __asm__ volatile(".inst 0xe320f04b" ::: "memory")
#define EDGEQ_MARK_END() __asm__ volatile(".inst 0xe320f04c" ::: "memory")
#elif defined(__riscv)
#define EDGEQ_MARK_BEGIN() __asm__ volatile("slti zero, zero, 75" ::: "memory")
#define EDGEQ_MARK_END() __asm__ volatile("slti zero, zero, 76" ::: "memory")
#elif defined(__x86_64__)
#define EDGEQ_MARK_BEGIN() __asm__ volatile(".byte 0x0f, 0x1f, 0x80, 0x01, 0xe9, 0x09, 0x0e" ::: "memory")
#define EDGEQ_MARK_END() __asm__ volatile(".byte 0x0f, 0x1f, 0x80, 0x02, 0xe9, 0x09, 0x0e" ::: "memory")
#endif

#endif
