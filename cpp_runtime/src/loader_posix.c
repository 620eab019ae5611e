/* Loading on systems with mmap: check the whole file, then map its segments. No dlopen, so it works in static programs,
 * and no byte of the file is trusted before the digest is right; nor after that, since a digest can be made by anybody.
 */
#if !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE 1 /* MAP_ANONYMOUS, MAP_POPULATE */
#endif
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

enum { MAX_SEGMENTS = 8 };

#if UINTPTR_MAX == UINT32_MAX
typedef Elf32_Ehdr elf_header;
typedef Elf32_Phdr elf_segment;
#define HOST_CLASS ELFCLASS32
#define MAX_SPAN (UINT64_C(1) << 30) /* sums of addresses stay inside 32 bits */
#else
typedef Elf64_Ehdr elf_header;
typedef Elf64_Phdr elf_segment;
#define HOST_CLASS ELFCLASS64
#define MAX_SPAN (UINT64_C(1) << 32) /* kernels reach their constants with 32-bit offsets: no artifact is larger */
#endif

#if defined(__x86_64__)
#define HOST_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define HOST_MACHINE EM_AARCH64
#elif defined(__arm__)
#define HOST_MACHINE EM_ARM
#else
#define HOST_MACHINE EM_RISCV
#endif

#if defined(MAP_POPULATE)
#define POPULATE MAP_POPULATE
#else
#define POPULATE 0
#endif

/* A whole artifact in memory while it is checked. */
typedef struct artifact {
  const uint8_t *bytes;
  uint64_t size; /* trailer included */
  int file;      /* to map segments from, or -1: copy them */
  edgeq_trailer trailer;
  elf_segment segments[MAX_SEGMENTS];
  uint32_t segment_count;
  uint64_t page;
} artifact;

static const char *arch_name(uint32_t arch) {
  switch (arch) {
  case EDGEQ_ARCH_X86_64:
    return "x86_64";
  case EDGEQ_ARCH_AARCH64:
    return "aarch64";
  case EDGEQ_ARCH_ARMV7:
    return "armv7";
  case EDGEQ_ARCH_RISCV64:
    return "riscv64";
  default:
    return "an unknown architecture";
  }
}

static edgeq_status check_digest(char *detail, const artifact *file) {
  uint8_t digest[EDGEQ_DIGEST_SIZE];
  edgeq_blake2b_256(digest, file->bytes, file->size - EDGEQ_DIGEST_SIZE);
  if (memcmp(digest, file->trailer.digest, EDGEQ_DIGEST_SIZE) != 0) {
    return edgeq_fail(detail, EDGEQ_ERROR_DIGEST, "the contents don't match the BLAKE2b digest in the trailer");
  }
  return EDGEQ_OK;
}

static edgeq_status check_trailer(char *detail, artifact *file, uint32_t flags) {
  const edgeq_trailer *trailer = &file->trailer;
  const int is_elf = file->size >= SELFMAG && memcmp(file->bytes, ELFMAG, SELFMAG) == 0;
  if (file->size < sizeof(elf_header) + sizeof *trailer) {
    return edgeq_fail(detail, is_elf ? EDGEQ_ERROR_TRUNCATED : EDGEQ_ERROR_FORMAT, "only %llu bytes",
                      (unsigned long long)file->size);
  }
  memcpy(&file->trailer, file->bytes + file->size - sizeof *trailer, sizeof *trailer);
  if (memcmp(trailer->magic, EDGEQ_TRAILER_MAGIC, EDGEQ_MAGIC_SIZE) != 0) {
    return edgeq_fail(detail, is_elf ? EDGEQ_ERROR_TRUNCATED : EDGEQ_ERROR_FORMAT, "no edgeq trailer at the end");
  }
  if (!(flags & EDGEQ_LOAD_SKIP_DIGEST)) {
    const edgeq_status status = check_digest(detail, file);
    if (status != EDGEQ_OK) {
      return status;
    }
  }
  if (trailer->abi_version != EDGEQ_ABI_VERSION) {
    return edgeq_fail(detail, EDGEQ_ERROR_ABI, "artifact of ABI %u, this runtime has %u",
                      (unsigned)trailer->abi_version, EDGEQ_ABI_VERSION);
  }
  if (trailer->file_size != file->size) {
    return edgeq_fail(detail, EDGEQ_ERROR_TRUNCATED, "%llu bytes, should be %llu", (unsigned long long)file->size,
                      (unsigned long long)trailer->file_size);
  }
  if (trailer->arch != edgeq_host_arch()) {
    return edgeq_fail(detail, EDGEQ_ERROR_ARCH, "built for %s, this is %s", arch_name(trailer->arch),
                      arch_name(edgeq_host_arch()));
  }
  return edgeq_features_check(detail, trailer->cpu_features);
}

static int good_segment(const elf_segment *segment, uint64_t body, uint64_t page, uint64_t end_of_last) {
  return edgeq_inside(segment->p_offset, segment->p_filesz, body) && segment->p_filesz == segment->p_memsz &&
         segment->p_filesz != 0 && !(segment->p_flags & PF_W) && (segment->p_flags & PF_R) &&
         edgeq_inside(segment->p_vaddr, segment->p_memsz, MAX_SPAN) &&
         segment->p_vaddr % page == segment->p_offset % page && segment->p_vaddr / page * page >= end_of_last;
}

/* The ELF headers, and from them the segments to map. */
static edgeq_status read_segments(char *detail, artifact *file) {
  const uint64_t body = file->size - sizeof(edgeq_trailer);
  elf_header header;
  memcpy(&header, file->bytes, sizeof header);
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != HOST_CLASS ||
      header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_type != ET_DYN || header.e_machine != HOST_MACHINE ||
      header.e_phentsize != sizeof(elf_segment) ||
      !edgeq_inside(header.e_phoff, (uint64_t)header.e_phnum * sizeof(elf_segment), body)) {
    return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "the ELF header is not that of an artifact");
  }
  uint64_t end_of_last = 0;
  for (uint32_t index = 0; index < header.e_phnum; index++) {
    elf_segment segment;
    memcpy(&segment, file->bytes + header.e_phoff + index * sizeof segment, sizeof segment);
    if (segment.p_type != PT_LOAD) {
      continue;
    }
    if (file->segment_count == MAX_SEGMENTS || !good_segment(&segment, body, file->page, end_of_last)) {
      return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "ELF segment %u can't be mapped", (unsigned)index);
    }
    end_of_last = segment.p_vaddr + segment.p_memsz;
    file->segments[file->segment_count++] = segment;
  }
  if (file->segment_count == 0) {
    return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "there are no ELF segments");
  }
  return EDGEQ_OK;
}

/* The segment that holds all of [vaddr, vaddr + size), or NULL. */
static const elf_segment *segment_of(const artifact *file, uint64_t vaddr, uint64_t size) {
  for (uint32_t index = 0; index < file->segment_count; index++) {
    const elf_segment *segment = &file->segments[index];
    if (vaddr >= segment->p_vaddr && edgeq_inside(vaddr - segment->p_vaddr, size, segment->p_memsz)) {
      return segment;
    }
  }
  return NULL;
}

static edgeq_status map_failed(char *detail, const char *doing) {
  const int reason = errno;
  return edgeq_fail(detail, reason == ENOMEM ? EDGEQ_ERROR_MEMORY : EDGEQ_ERROR_OPEN, "%s: %s", doing,
                    reason == EPERM ? "not permitted (a noexec file system? EDGEQ_LOAD_COPY helps)" : strerror(reason));
}

/* Puts one segment at its address: pages of the file where there is one, a private copy otherwise. */
static edgeq_status map_segment(char *detail, const artifact *file, uint8_t *base, const elf_segment *segment) {
  const uint64_t shift = segment->p_vaddr % file->page;
  uint8_t *start = base + (segment->p_vaddr - shift);
  const size_t length = (size_t)(segment->p_memsz + shift);
  const int protection = PROT_READ | ((segment->p_flags & PF_X) ? PROT_EXEC : 0);
  if (file->file >= 0) {
    void *mapped = mmap(start, length, protection, MAP_PRIVATE | MAP_FIXED | POPULATE, file->file,
                        (off_t)(segment->p_offset - shift));
    return mapped == MAP_FAILED ? map_failed(detail, "a segment can't be mapped") : EDGEQ_OK;
  }
  if (mprotect(start, length, PROT_READ | PROT_WRITE) != 0) {
    return map_failed(detail, "memory for a segment can't be had");
  }
  memcpy(start + shift, file->bytes + segment->p_offset, segment->p_filesz);
  if (segment->p_flags & PF_X) {
    __builtin___clear_cache((char *)start, (char *)start + length);
  }
  return mprotect(start, length, protection) != 0 ? map_failed(detail, "a segment can't be protected") : EDGEQ_OK;
}

static edgeq_status map_all(edgeq_model *model, const artifact *file) {
  const elf_segment *last = &file->segments[file->segment_count - 1];
  const uint64_t end = last->p_vaddr + last->p_memsz;
  const size_t span = (size_t)((end + file->page - 1) / file->page * file->page);
  void *base = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) {
    return map_failed(model->detail, "no room for the artifact");
  }
  model->mapping = base;
  model->mapping_size = span;
  for (uint32_t index = 0; index < file->segment_count; index++) {
    const edgeq_status status = map_segment(model->detail, file, base, &file->segments[index]);
    if (status != EDGEQ_OK) {
      return status;
    }
  }
  return EDGEQ_OK;
}

/* Every program's code must lie in a segment that may be executed, the first one's where the trailer says. */
static edgeq_status check_entries(char *detail, const artifact *file, const edgeq_image *images, uintptr_t base) {
  for (uint32_t index = 0; index < images->variant_count * images->program_count; index++) {
    const uint64_t vaddr = edgeq_entry_of(&images[index]) - base;
    const elf_segment *code = segment_of(file, vaddr, 1);
    if (code == NULL || !(code->p_flags & PF_X) || (index == 0 && vaddr != file->trailer.entry_vaddr)) {
      return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "the entry point of program %u is wrong", (unsigned)index);
    }
  }
  return EDGEQ_OK;
}

/* What is mapped becomes the model, if all of it is right. */
static edgeq_status bind_checked(edgeq_model *model, const artifact *file) {
  const edgeq_image *images = (const void *)((const uint8_t *)model->mapping + file->trailer.image_vaddr);
  edgeq_status status = edgeq_images_check(model->detail, images, file->trailer.image_size);
  if (status == EDGEQ_OK) {
    status = check_entries(model->detail, file, images, (uintptr_t)model->mapping);
  }
  return status == EDGEQ_OK ? edgeq_model_bind(model, images) : status;
}

static edgeq_status load(edgeq_model *model, artifact *file, uint32_t flags) {
  file->page = (uint64_t)sysconf(_SC_PAGESIZE);
  edgeq_status status = check_trailer(model->detail, file, flags);
  if (status == EDGEQ_OK) {
    status = read_segments(model->detail, file);
  }
  const edgeq_trailer *trailer = &file->trailer;
  if (status == EDGEQ_OK) {
    const elf_segment *data = segment_of(file, trailer->image_vaddr, trailer->image_size);
    if (data == NULL || trailer->image_vaddr - data->p_vaddr != trailer->image_offset - data->p_offset) {
      status = edgeq_fail(model->detail, EDGEQ_ERROR_FORMAT, "the trailer points outside the segments");
    }
  }
  if (status == EDGEQ_OK) {
    status = map_all(model, file);
  }
  if (status == EDGEQ_OK) {
    status = bind_checked(model, file);
  }
  model->code_size = trailer->code_size;
  return status;
}

/* An empty model keeps only the reason. */
static edgeq_status finish(edgeq_model *model, edgeq_status status) {
  if (status != EDGEQ_OK) {
    edgeq_model_free(model);
  }
  return status;
}

edgeq_status edgeq_model_load_bytes(edgeq_model *model, const void *bytes, size_t size,
                                    const edgeq_load_options *options) {
  if (model == NULL) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  memset(model, 0, sizeof *model);
  if (bytes == NULL) {
    return edgeq_fail(model->detail, EDGEQ_ERROR_ARGUMENT, "no bytes were given");
  }
  artifact file = {.bytes = bytes, .size = size, .file = -1};
  return finish(model, load(model, &file, options != NULL ? options->flags : 0));
}

static edgeq_status load_descriptor(edgeq_model *model, int descriptor, uint32_t flags) {
  struct stat about;
  if (fstat(descriptor, &about) != 0) {
    return map_failed(model->detail, "the file can't be read");
  }
  if (!S_ISREG(about.st_mode)) {
    return edgeq_fail(model->detail, EDGEQ_ERROR_OPEN, "not a regular file");
  }
  if (about.st_size <= 0) {
    return edgeq_fail(model->detail, EDGEQ_ERROR_FORMAT, "the file is empty");
  }
  const size_t size = (size_t)about.st_size;
  void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE | POPULATE, descriptor, 0);
  if (bytes == MAP_FAILED) {
    return map_failed(model->detail, "the file can't be mapped");
  }
  artifact file = {.bytes = bytes, .size = size, .file = (flags & EDGEQ_LOAD_COPY) ? -1 : descriptor};
  const edgeq_status status = load(model, &file, flags);
  munmap(bytes, size);
  return status;
}

edgeq_status edgeq_model_load(edgeq_model *model, const char *path, const edgeq_load_options *options) {
  if (model == NULL) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  memset(model, 0, sizeof *model);
  if (path == NULL) {
    return edgeq_fail(model->detail, EDGEQ_ERROR_ARGUMENT, "no path was given");
  }
  const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    return map_failed(model->detail, "the file can't be opened");
  }
  const edgeq_status status = load_descriptor(model, descriptor, options != NULL ? options->flags : 0);
  close(descriptor);
  return finish(model, status);
}

void edgeq_model_free(edgeq_model *model) {
  if (model == NULL) {
    return;
  }
  if (model->mapping != NULL) {
    munmap(model->mapping, model->mapping_size);
  }
  char detail[EDGEQ_DETAIL_SIZE];
  memcpy(detail, model->detail, sizeof detail);
  memset(model, 0, sizeof *model);
  memcpy(model->detail, detail, sizeof detail);
}
