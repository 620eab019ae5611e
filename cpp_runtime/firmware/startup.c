/* Vector table and reset handler for Cortex-M, nothing board-specific. */
#include <stddef.h>
#include <stdint.h>

extern uint32_t edgeq_stack_top, edgeq_data_start, edgeq_data_end, edgeq_bss_start, edgeq_bss_end;
extern const uint32_t edgeq_data_image;
int main(void);
void edgeq_fault(void);
void edgeq_exit(int code) __attribute__((noreturn));
void edgeq_reset(void) __attribute__((noreturn));

__attribute__((weak)) void edgeq_fault(void) {
  edgeq_exit(3);
}

void edgeq_reset(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  /* Coprocessors 10 and 11: the registers of float and vector instructions. */
  *(volatile uint32_t *)0xe000ed88u |= 0xfu << 20;
  __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
  const volatile uint32_t *from = &edgeq_data_image;
  for (volatile uint32_t *to = &edgeq_data_start; to < &edgeq_data_end; to++) {
    *to = *from++;
  }
  for (volatile uint32_t *to = &edgeq_bss_start; to < &edgeq_bss_end; to++) {
    *to = 0;
  }
  edgeq_exit(main());
}

typedef void (*handler)(void);
/* The first entry is the stack pointer, then reset, NMI, and faults. */
__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &edgeq_stack_top,          (const void *)edgeq_reset, (const void *)edgeq_fault, (const void *)edgeq_fault,
    (const void *)edgeq_fault, (const void *)edgeq_fault, (const void *)edgeq_fault,
};
