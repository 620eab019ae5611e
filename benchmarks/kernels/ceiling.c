/* The instructions of inner products on registers alone: what a processor gives to each mix. Built by ceiling.py. */
#define TIMES8(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define CLOBBERS                                                                                                       \
  "rcx", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",    \
      "xmm13", "xmm14", "xmm15"
/* Eight independent chains in registers 0 to 7; 8 to 12 hold what is on its way, 13 to 15 the operands. */
#define MIX(name, body)                                                                                                \
  void mix_##name(long passes) {                                                                                       \
    __asm__ volatile("vpxor %%ymm13,%%ymm13,%%ymm13\n\t"                                                               \
                     "vpxor %%ymm14,%%ymm14,%%ymm14\n\t"                                                               \
                     "vpxor %%ymm15,%%ymm15,%%ymm15\n\t"                                                               \
                     "mov %0,%%rcx\n\t"                                                                                \
                     ".p2align 5\n\t"                                                                                  \
                     "1:\n\t" body "dec %%rcx\n\t"                                                                     \
                     "jnz 1b\n\t"                                                                                      \
                     :                                                                                                 \
                     : "r"(passes)                                                                                     \
                     : CLOBBERS);                                                                                      \
  }

#define SUM32(i, from) "vpaddd %%" from ",%%ymm" #i ",%%ymm" #i "\n\t"
#define WORDS(to) "vpmaddwd %%ymm14,%%ymm13,%%" to "\n\t"
#define BYTES(to) "vpmaddubsw %%ymm14,%%ymm13,%%" to "\n\t"
#define SUM16(from, to) "vpaddw %%" from ",%%" to ",%%" to "\n\t"
#define WIDEN(r) "vpmaddwd %%ymm15,%%" r ",%%" r "\n\t"

#define FMA(i) "vfmadd231ps %%ymm14,%%ymm13,%%ymm" #i "\n\t"
#define EXACT(i) WORDS("ymm8") SUM32(i, "ymm8")
#define DEPTH1(i) BYTES("ymm8") WIDEN("ymm8") SUM32(i, "ymm8")
#define DEPTH2(i) BYTES("ymm8") BYTES("ymm9") SUM16("ymm9", "ymm8") WIDEN("ymm8") SUM32(i, "ymm8")
#define MORE(r) BYTES(r) SUM16(r, "ymm8")
#define DEPTH4(i) BYTES("ymm8") MORE("ymm9") MORE("ymm10") MORE("ymm11") WIDEN("ymm8") SUM32(i, "ymm8")
#define SEVEN MORE("ymm9") MORE("ymm10") MORE("ymm11") MORE("ymm9") MORE("ymm10") MORE("ymm11") MORE("ymm9")
#define DEPTH8(i) BYTES("ymm8") SEVEN WIDEN("ymm8") SUM32(i, "ymm8")
#define ENDLESS(i) BYTES("ymm8") "vpaddw %%ymm8,%%ymm" #i ",%%ymm" #i "\n\t"

MIX(fma, TIMES8(FMA))
MIX(exact, TIMES8(EXACT))
MIX(depth1, TIMES8(DEPTH1))
MIX(depth2, TIMES8(DEPTH2))
MIX(depth4, TIMES8(DEPTH4))
MIX(depth8, TIMES8(DEPTH8))
MIX(endless, TIMES8(ENDLESS))

#ifdef __AVX512VNNI__
#define DOT(i) "vpdpbusd %%zmm14,%%zmm13,%%zmm" #i "\n\t"
MIX(dot, TIMES8(DOT))
#endif
