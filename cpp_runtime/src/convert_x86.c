/* Rows of floats to bytes, 32 at a time, on processors with AVX2. The same operations as convert.c's, so the same bits.
 * Compiled for AVX2 whatever the rest of the runtime is compiled for; callers ask for the feature first. */
#include "internal.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

AVX2 static inline __m256i eight(const float *from, __m256 inverse, __m256 low, __m256 high, __m256 magic,
                                 __m256i offset) {
  __m256 steps = _mm256_mul_ps(_mm256_loadu_ps(from), inverse);
  steps = _mm256_min_ps(_mm256_max_ps(steps, low), high); /* NaN becomes `low` */
  return _mm256_add_epi32(_mm256_castps_si256(_mm256_add_ps(steps, magic)), offset);
}

AVX2 int64_t edgeq_quantize_bytes_avx2(uint8_t *to, const float *from, int64_t length, const edgeq_scaling *s,
                                       int is_signed) {
  const __m256 inverse = _mm256_set1_ps(s->inverse), low = _mm256_set1_ps(s->low), high = _mm256_set1_ps(s->high);
  const __m256 magic = _mm256_set1_ps(EDGEQ_ROUND_MAGIC);
  const __m256i offset = _mm256_set1_epi32(s->zero - EDGEQ_ROUND_BITS);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* packing works within 128 bits */
  int64_t i = 0;
  for (; i + 32 <= length; i += 32) {
    const __m256i a = eight(from + i, inverse, low, high, magic, offset);
    const __m256i b = eight(from + i + 8, inverse, low, high, magic, offset);
    const __m256i c = eight(from + i + 16, inverse, low, high, magic, offset);
    const __m256i d = eight(from + i + 24, inverse, low, high, magic, offset);
    const __m256i ab = _mm256_packs_epi32(a, b), cd = _mm256_packs_epi32(c, d);
    const __m256i bytes = is_signed ? _mm256_packs_epi16(ab, cd) : _mm256_packus_epi16(ab, cd);
    _mm256_storeu_si256((__m256i *)(void *)(to + i), _mm256_permutevar8x32_epi32(bytes, order));
  }
  return i;
}

#endif
