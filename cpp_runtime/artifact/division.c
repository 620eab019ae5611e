/* 64-bit division for the code inside artifacts of 32-bit processors: compilers emit calls to it. Built and linked like
 * memory.c. Names and meaning as in GCC's "Integer library routines"; a division by 0 gives 0 and leaves everything. */
#include <stdint.h>

#define HIDDEN __attribute__((visibility("hidden")))

/* The quotient; the remainder goes to *rest. One bit a step, from the first that can be set. */
static uint64_t divide(uint64_t dividend, uint64_t divisor, uint64_t *rest) {
  uint64_t quotient = 0, bit = 1;
  if (divisor == 0 || dividend < divisor) {
    *rest = dividend;
    return 0;
  }
  if (dividend <= UINT32_MAX) {
    const uint32_t short_dividend = (uint32_t)dividend, short_divisor = (uint32_t)divisor;
    *rest = short_dividend % short_divisor;
    return short_dividend / short_divisor;
  }
  while (divisor <= dividend >> 1) {
    divisor <<= 1;
    bit <<= 1;
  }
  for (; bit != 0; bit >>= 1, divisor >>= 1) {
    if (dividend >= divisor) {
      dividend -= divisor;
      quotient |= bit;
    }
  }
  *rest = dividend;
  return quotient;
}

static uint64_t magnitude(int64_t value) {
  return value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
}

static int64_t with_sign(uint64_t value, int is_negative) {
  return (int64_t)(is_negative ? 0 - value : value);
}

HIDDEN uint64_t __udivdi3(uint64_t dividend, uint64_t divisor) {
  uint64_t rest;
  return divide(dividend, divisor, &rest);
}

HIDDEN uint64_t __umoddi3(uint64_t dividend, uint64_t divisor) {
  uint64_t rest;
  divide(dividend, divisor, &rest);
  return rest;
}

HIDDEN int64_t __divdi3(int64_t dividend, int64_t divisor) {
  uint64_t rest;
  return with_sign(divide(magnitude(dividend), magnitude(divisor), &rest), (dividend < 0) != (divisor < 0));
}

HIDDEN int64_t __moddi3(int64_t dividend, int64_t divisor) {
  uint64_t rest;
  divide(magnitude(dividend), magnitude(divisor), &rest);
  return with_sign(rest, dividend < 0);
}
