/* Inner loops of paired convolutions (edgeq/compiler/kernels/paired_conv.py) for Armv7E-M and Armv8-M with DSP.
 *
 * A halfword of weights is 256 * w[odd channel] + w[even channel]: smlad with it gives `paired`, smlad with its sxtb16 gives
 * `even`; paired - even is 256 * odd. All sums are modulo 2^32. No stack but the saved registers. */
  .syntax unified
  .thumb

/* void edgeq_dsp_dot_4x2(const uint32_t *w, const uint32_t *x, const uint32_t *x_end, int32_t sums[8])
 * Four pixels, two channels. w: one word per two k. x: four words, one per pixel, per two k; x_end - x is a multiple of 16 words.
 * sums: in [0] and [1] what `even` and `paired` start with; out four of `even`, then four of 256 * odd. */
  .section .text.edgeq_dsp_dot_4x2,"ax",%progbits
  .balign 4
  .global edgeq_dsp_dot_4x2
  .type edgeq_dsp_dot_4x2,%function
  .thumb_func
edgeq_dsp_dot_4x2:
  push {r2-r11, lr}
  ldrd r4, r8, [r3]
  mov r5, r4
  mov r6, r4
  mov r7, r4
  mov r9, r8
  mov r10, r8
  mov r11, r8
1:
  .rept 4
  ldr r12, [r0], #4
  ldrd r2, r3, [r1], #8
  sxtb16 lr, r12
  smlad r8, r12, r2, r8
  smlad r9, r12, r3, r9
  smlad r4, lr, r2, r4
  smlad r5, lr, r3, r5
  ldrd r2, r3, [r1], #8
  smlad r10, r12, r2, r10
  smlad r11, r12, r3, r11
  smlad r6, lr, r2, r6
  smlad r7, lr, r3, r7
  .endr
  ldr r2, [sp]
  cmp r1, r2
  blo 1b
  ldr r3, [sp, #4]
  sub r8, r8, r4
  sub r9, r9, r5
  sub r10, r10, r6
  sub r11, r11, r7
  stm r3, {r4-r11}
  add sp, #8
  pop {r4-r11, pc}
  .size edgeq_dsp_dot_4x2, . - edgeq_dsp_dot_4x2

/* void edgeq_dsp_dot_1x4(const uint32_t *w, const uint32_t *x, const uint32_t *x_end, int32_t sums[4])
 * One pixel, four channels. w: two words, one per pair of channels, per two k. x: one word per two k; x_end - x is a
 * multiple of 4 words. sums: in even, paired of the first pair, then of the second; out even, 256 * odd, even, 256 * odd. */
  .section .text.edgeq_dsp_dot_1x4,"ax",%progbits
  .balign 4
  .global edgeq_dsp_dot_1x4
  .type edgeq_dsp_dot_1x4,%function
  .thumb_func
edgeq_dsp_dot_1x4:
  push {r3-r11, lr}
  ldm r3, {r4-r7}
1:
  .rept 2
  ldm r0!, {r8-r11}
  ldrd r3, r12, [r1], #8
  smlad r5, r8, r3, r5
  smlad r7, r9, r3, r7
  sxtb16 r8, r8
  sxtb16 r9, r9
  smlad r5, r10, r12, r5
  smlad r7, r11, r12, r7
  sxtb16 r10, r10
  sxtb16 r11, r11
  smlad r4, r8, r3, r4
  smlad r6, r9, r3, r6
  smlad r4, r10, r12, r4
  smlad r6, r11, r12, r6
  .endr
  cmp r1, r2
  blo 1b
  pop {r3}
  sub r5, r5, r4
  sub r7, r7, r6
  stm r3, {r4-r7}
  pop {r4-r11, pc}
  .size edgeq_dsp_dot_1x4, . - edgeq_dsp_dot_1x4
