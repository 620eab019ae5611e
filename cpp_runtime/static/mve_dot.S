/* Inner loops of dense convolutions (edgeq/compiler/kernels/mve_conv.py) for Armv8.1-M with integer vectors (MVE).
 *
 * Sums are modulo 2^32. `depth` is a multiple of 16. No stack but the saved registers, no callee-saved vectors. */
  .syntax unified
  .thumb

/* void edgeq_mve_dot_3x2(const int8_t *w, const int8_t *x, int32_t depth, int32_t sums[6])
 * Three pixels, two channels. w: 16 bytes of each channel in turn. x: `depth` bytes of each pixel after the other.
 * sums: in [0] and [1] what the channels start with; out three pixels of each channel. */
  .section .text.edgeq_mve_dot_3x2,"ax",%progbits
  .balign 4
  .global edgeq_mve_dot_3x2
  .type edgeq_mve_dot_3x2,%function
  .thumb_func
edgeq_mve_dot_3x2:
  push {r4-r11, lr}
  mov r7, r0
  lsr r12, r2, #4
  mov r9, r3
  add r3, r1, r2
  add r5, r3, r2
  ldrd r0, r6, [r9]
  mov r2, r0
  mov r4, r0
  mov r8, r6
  mov r10, r6
  dls lr, r12
1:
  vldrb.8 q0, [r7], #16
  vldrb.8 q2, [r1], #16
  vmlava.s8 r0, q0, q2
  vldrb.8 q1, [r7], #16
  vmlava.s8 r6, q1, q2
  vldrb.8 q3, [r3], #16
  vmlava.s8 r2, q0, q3
  vldrb.8 q2, [r5], #16
  vmlava.s8 r8, q1, q3
  vmlava.s8 r4, q0, q2
  vmlava.s8 r10, q1, q2
  le lr, 1b
  stm r9, {r0, r2, r4, r6, r8, r10}
  pop {r4-r11, pc}
  .size edgeq_mve_dot_3x2, . - edgeq_mve_dot_3x2

/* void edgeq_mve_dot_1x6(const int8_t *w, const int8_t *x, int32_t depth, int32_t sums[6])
 * One pixel, six channels. w: 16 bytes of each channel in turn. sums: in what they start with, out what they are. */
  .section .text.edgeq_mve_dot_1x6,"ax",%progbits
  .balign 4
  .global edgeq_mve_dot_1x6
  .type edgeq_mve_dot_1x6,%function
  .thumb_func
edgeq_mve_dot_1x6:
  push {r4-r11, lr}
  mov r7, r0
  lsr r12, r2, #4
  mov r9, r3
  ldm r9, {r0, r2, r4, r6, r8, r10}
  dls lr, r12
1:
  vldrb.8 q0, [r1], #16
  vldrb.8 q1, [r7], #16
  vmlava.s8 r0, q0, q1
  vldrb.8 q2, [r7], #16
  vmlava.s8 r2, q0, q2
  vldrb.8 q3, [r7], #16
  vmlava.s8 r4, q0, q3
  vldrb.8 q1, [r7], #16
  vmlava.s8 r6, q0, q1
  vldrb.8 q2, [r7], #16
  vmlava.s8 r8, q0, q2
  vldrb.8 q3, [r7], #16
  vmlava.s8 r10, q0, q3
  le lr, 1b
  stm r9, {r0, r2, r4, r6, r8, r10}
  pop {r4-r11, pc}
  .size edgeq_mve_dot_1x6, . - edgeq_mve_dot_1x6

/* void edgeq_mve_copy(void *to, const void *from, int32_t bytes)
 * Short runs of any length and alignment, not a byte too many. */
  .section .text.edgeq_mve_copy,"ax",%progbits
  .balign 4
  .global edgeq_mve_copy
  .type edgeq_mve_copy,%function
  .thumb_func
edgeq_mve_copy:
  push {r7, lr}
  wlstp.8 lr, r2, 2f
1:
  vldrb.8 q0, [r1], #16
  vstrb.8 q0, [r0], #16
  letp lr, 1b
2:
  pop {r7, pc}
  .size edgeq_mve_copy, . - edgeq_mve_copy
