/* Layout of an edgeq artifact (a `.edgeq` file). This header is the only definition of it; edgeq/artifact/format.py
 * mirrors it and a test compares the two.
 *
 *   file    = ELF-64 shared object without imports, relocations or writable segments, then edgeq_trailer
 *   .rodata = edgeq_image[], then the tables, strings, weights, manifests and golden vectors they point to
 *
 * One edgeq_image describes one program: the model for one set of input shapes and one kind of CPU. An artifact has
 * variant_count * program_count of them, variant after variant. A variant is all programs for one kind of CPU; variants
 * compute the same bits, the best come first. Programs differ in shapes; their tensors have the same names, dtypes,
 * ranks, scales and zero points. What is equal (weights, strings, golden vectors) is stored once.
 *
 * All integers are little-endian. Every offset inside an image is counted in bytes from the start of that edgeq_image
 * and every file offset from the start of the file. Readers treat each of them as hostile until checked.
 */
#ifndef EDGEQ_ARTIFACT_H
#define EDGEQ_ARTIFACT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a layout below, or the meaning of a field, changes. Loaders take exactly this version. */
#define EDGEQ_ABI_VERSION 2u

#define EDGEQ_TRAILER_MAGIC "EDGEQART"
#define EDGEQ_IMAGE_MAGIC "EDGEQIMG"
#define EDGEQ_MAGIC_SIZE 8
#define EDGEQ_DIGEST_SIZE 32
#define EDGEQ_MAX_RANK 8
#define EDGEQ_MAX_THREADS 64u
#define EDGEQ_MAX_VARIANTS 16u
#define EDGEQ_MAX_PROGRAMS 64u
/* The arena, and each weight blob in the image, starts on a multiple of this many bytes. */
#define EDGEQ_ALIGNMENT 64u

/* edgeq_trailer.arch */
#define EDGEQ_ARCH_X86_64 1u
#define EDGEQ_ARCH_AARCH64 2u
#define EDGEQ_ARCH_ARMV7 3u
#define EDGEQ_ARCH_RISCV64 4u

/* edgeq_trailer.cpu_features when arch is x86_64 */
#define EDGEQ_X86_AVX2 (UINT64_C(1) << 0)
#define EDGEQ_X86_FMA (UINT64_C(1) << 1)
#define EDGEQ_X86_BMI1 (UINT64_C(1) << 2)
#define EDGEQ_X86_BMI2 (UINT64_C(1) << 3)
#define EDGEQ_X86_LZCNT (UINT64_C(1) << 4)
#define EDGEQ_X86_F16C (UINT64_C(1) << 5)
#define EDGEQ_X86_MOVBE (UINT64_C(1) << 6)
#define EDGEQ_X86_AVX512F (UINT64_C(1) << 7)
#define EDGEQ_X86_AVX512BW (UINT64_C(1) << 8)
#define EDGEQ_X86_AVX512VL (UINT64_C(1) << 9)
#define EDGEQ_X86_AVX512DQ (UINT64_C(1) << 10)
#define EDGEQ_X86_AVX512VNNI (UINT64_C(1) << 11)
#define EDGEQ_X86_AVX512VBMI (UINT64_C(1) << 12)
#define EDGEQ_X86_AVXVNNI (UINT64_C(1) << 13)
#define EDGEQ_X86_AVX512CD (UINT64_C(1) << 14)
#define EDGEQ_X86_SSSE3 (UINT64_C(1) << 15)
#define EDGEQ_X86_SSE41 (UINT64_C(1) << 16)

/* edgeq_trailer.cpu_features when arch is aarch64 (Neon itself is the baseline) */
#define EDGEQ_ARM_DOTPROD (UINT64_C(1) << 0)
#define EDGEQ_ARM_I8MM (UINT64_C(1) << 1)
#define EDGEQ_ARM_FP16 (UINT64_C(1) << 2)
#define EDGEQ_ARM_RDM (UINT64_C(1) << 3)
#define EDGEQ_ARM_LSE (UINT64_C(1) << 4)
#define EDGEQ_ARM_BF16 (UINT64_C(1) << 5)
#define EDGEQ_ARM_SVE (UINT64_C(1) << 6)
#define EDGEQ_ARM_SVE2 (UINT64_C(1) << 7)

/* edgeq_trailer.cpu_features when arch is armv7 */
#define EDGEQ_ARMV7_NEON (UINT64_C(1) << 0)
#define EDGEQ_ARMV7_IDIV (UINT64_C(1) << 1)

/* edgeq_trailer.cpu_features when arch is riscv64 (RV64IMAC is the baseline) */
#define EDGEQ_RISCV_V (UINT64_C(1) << 0)

/* edgeq_image.flags: shorter inputs may be padded with (real) zeros, here and in every program of the artifact. The
 * part of each output that belongs to the given elements is then what a program of just that length gives, bit by bit.
 */
#define EDGEQ_IMAGE_PADS 1u

/* edgeq_tensor_record.dtype */
#define EDGEQ_INT8 1u
#define EDGEQ_UINT8 2u
#define EDGEQ_INT16 3u
#define EDGEQ_INT32 4u
#define EDGEQ_INT64 5u

/* The last 256 bytes of the file. `digest` is BLAKE2b-256 of every byte of the file in front of it. */
typedef struct edgeq_trailer {
  uint8_t magic[EDGEQ_MAGIC_SIZE]; /* EDGEQ_TRAILER_MAGIC */
  uint32_t abi_version;
  uint32_t arch;
  uint64_t cpu_features; /* what every variant needs: without it none can run */
  uint64_t file_size;    /* bytes, trailer included */
  uint64_t image_offset; /* of the first edgeq_image in the file */
  uint64_t image_vaddr;  /* of the first edgeq_image once mapped, ELF virtual address */
  uint64_t image_size;   /* bytes: all images and all they point to */
  uint64_t entry_vaddr;  /* of the first image's edgeq_step_fn, ELF virtual address */
  uint64_t code_size;    /* bytes of machine code, for reports */
  uint8_t reserved[152]; /* 0 */
  uint8_t digest[EDGEQ_DIGEST_SIZE];
} edgeq_trailer;

/* One program. The first one is the symbol `edgeq_model`, on a multiple of EDGEQ_ALIGNMENT; the others follow it. */
typedef struct edgeq_image {
  uint8_t magic[EDGEQ_MAGIC_SIZE]; /* EDGEQ_IMAGE_MAGIC */
  uint32_t abi_version;
  uint32_t header_size; /* sizeof(edgeq_image) */
  int64_t entry;        /* address of its edgeq_step_fn minus the address of this field: set by the linker */
  uint64_t image_size;  /* bytes from the start of this edgeq_image to the end of the last image's data */
  uint64_t arena_size;  /* bytes the caller provides */
  uint32_t arena_alignment;
  uint32_t max_threads; /* slots the arena has scratch for, 1 .. EDGEQ_MAX_THREADS */
  uint32_t step_count;
  uint32_t input_count;
  uint32_t output_count;
  uint32_t golden_count;
  uint64_t steps;         /* edgeq_step_record[step_count] */
  uint64_t tensors;       /* edgeq_tensor_record[input_count + output_count], inputs first */
  uint64_t golden;        /* golden_count vectors of golden_stride bytes: see golden_stride */
  uint64_t golden_stride; /* dense values of every input, then of every output, each padded to 8 bytes */
  uint64_t strings;       /* NUL-terminated UTF-8, the last byte is 0 */
  uint64_t strings_size;
  uint64_t weights; /* multiple of EDGEQ_ALIGNMENT */
  uint64_t weights_size;
  uint64_t manifest; /* JSON, UTF-8 */
  uint64_t manifest_size;
  uint64_t cpu_features;  /* all of these must be there, or this variant's code must not run */
  uint32_t variant_count; /* 1 .. EDGEQ_MAX_VARIANTS */
  uint32_t program_count; /* programs of each variant, 1 .. EDGEQ_MAX_PROGRAMS */
  uint32_t index;         /* of this edgeq_image: variant * program_count + program */
  uint32_t flags;         /* EDGEQ_IMAGE_… */
  uint8_t reserved[24];   /* 0 */
} edgeq_image;

/* One kernel call. */
typedef struct edgeq_step_record {
  uint32_t name;  /* offset into strings: the layer it came from */
  uint32_t kind;  /* offset into strings: op kind */
  uint32_t tasks; /* independent tasks, at least 1 */
  uint32_t grain; /* fewest tasks worth a thread of their own, at least 1 */
  uint64_t macs;  /* multiply-accumulates, for reports */
  uint64_t bytes; /* bytes read and written, for reports */
} edgeq_step_record;

/* A graph input or output. Real value = scale * (q - zero_point); element (i0, i1, …) lies at
 * arena + offset + itemsize * Σ i_k * strides[k]. */
typedef struct edgeq_tensor_record {
  uint32_t name;   /* offset into strings */
  uint32_t layout; /* offset into strings: a note for people, "" when dense */
  uint32_t dtype;
  uint32_t rank;                   /* 0 .. EDGEQ_MAX_RANK */
  int64_t shape[EDGEQ_MAX_RANK];   /* elements; unused entries are 1 */
  int64_t strides[EDGEQ_MAX_RANK]; /* elements; unused entries are 0 */
  double scale;
  int32_t zero_point;
  uint32_t storage_bias; /* 0, or 0x80: an int8 value v lies in the arena as the byte v + 128 */
  uint64_t offset;       /* bytes from the start of the arena */
  uint64_t size;         /* bytes from the first to the last element, both included */
} edgeq_tensor_record;

/* The one function of a program. Runs tasks [t0, t1) of a step; `slot` tells concurrent calls of one step apart and
 * is below max_threads. Returns 0, or a code that makes the run fail. */
typedef int32_t (*edgeq_step_fn)(int32_t step, int32_t t0, int32_t t1, int32_t slot, uint8_t *arena,
                                 const uint8_t *weights);

#ifdef __cplusplus
}
#endif

#endif
