/* C++17 face of the edgeq runtime. Header-only over edgeq.h; no exceptions, no RTTI.
 *
 *   edgeq::Model model("model.edgeq");
 *   if (!model.run(pixels)) { std::puts(model.message()); return 1; }   // any container of float, or of the input's
 * integers std::vector<float> scores = model.output(0);
 *
 * Memory is taken when a model is loaded; run(), set_input() and read_output() take none.
 */
#ifndef EDGEQ_EDGEQ_HPP
#define EDGEQ_EDGEQ_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "edgeq/edgeq.h"

namespace edgeq {

/* EDGEQ_INT8 … of a C++ type; 0 if tensors can't hold it. */
template <typename T> constexpr std::uint32_t dtype_of() noexcept {
  if (std::is_same_v<T, std::int8_t>) {
    return EDGEQ_INT8;
  }
  if (std::is_same_v<T, std::uint8_t>) {
    return EDGEQ_UINT8;
  }
  if (std::is_same_v<T, std::int16_t>) {
    return EDGEQ_INT16;
  }
  if (std::is_same_v<T, std::int32_t>) {
    return EDGEQ_INT32;
  }
  return std::is_same_v<T, std::int64_t> ? EDGEQ_INT64 : 0;
}

/* A loaded model with its arena and threads. Movable; one thread at a time. */
class Model {
public:
  /* Loads `path`; `threads` (1 to 64) share each run. Failure shows in operator bool, status() and message(). */
  explicit Model(const char *path, unsigned threads = 1, const edgeq_load_options *options = nullptr) noexcept
      : state_(new (std::nothrow) State) {
    if (state_) {
      state_->open(path, threads, options);
    }
  }

  /* Whether the model is loaded and the last call succeeded. */
  explicit operator bool() const noexcept {
    return status() == EDGEQ_OK;
  }

  edgeq_status status() const noexcept {
    return state_ ? state_->status : EDGEQ_ERROR_MEMORY;
  }

  /* Why the last call failed: the detail if there is one, else the status in words. */
  const char *message() const noexcept {
    if (state_ && state_->status != EDGEQ_OK) {
      for (const char *detail : {state_->context.detail, state_->model.detail}) {
        if (detail[0] != '\0') {
          return detail;
        }
      }
    }
    return edgeq_status_string(status());
  }

  std::size_t inputs() const noexcept {
    return handle() != nullptr ? edgeq_input_count(handle()) : 0;
  }

  std::size_t outputs() const noexcept {
    return handle() != nullptr ? edgeq_output_count(handle()) : 0;
  }

  /* Name, dtype, shape, scale and zero point. An index out of range gives an empty description. */
  edgeq_tensor_info input_info(std::size_t index) const noexcept {
    edgeq_tensor_info info{};
    edgeq_input_info(handle(), static_cast<std::uint32_t>(index), &info);
    return info;
  }

  edgeq_tensor_info output_info(std::size_t index) const noexcept {
    edgeq_tensor_info info{};
    edgeq_output_info(handle(), static_cast<std::uint32_t>(index), &info);
    return info;
  }

  /* Copies dense values in: floats are quantized, integers must have the input's dtype. */
  template <typename Container> bool set_input(std::size_t index, const Container &values) noexcept {
    using Value = std::remove_cv_t<std::remove_pointer_t<decltype(values.data())>>;
    static_assert(std::is_same_v<Value, float> || dtype_of<Value>() != 0, "float or an integer of 8 to 64 bits");
    if (!is_loaded()) {
      return false;
    }
    const auto place = static_cast<std::uint32_t>(index);
    if constexpr (std::is_same_v<Value, float>) {
      return note(edgeq_quantize_input(&state_->context, place, values.data(), values.size()));
    } else if (input_info(index).dtype != dtype_of<Value>()) {
      return note(EDGEQ_ERROR_ARGUMENT);
    } else {
      return note(edgeq_set_input(&state_->context, place, values.data(), values.size() * sizeof(Value)));
    }
  }

  /* Sets inputs 0, 1, … and runs. Without arguments: runs on what set_input put there. */
  template <typename... Containers> bool run(const Containers &...values) noexcept {
    if (!is_loaded()) {
      return false;
    }
    [[maybe_unused]] std::size_t index = 0;
    return (set_input(index++, values) && ...) && note(edgeq_run(&state_->context));
  }

  /* Copies output `index` out: into floats dequantized, into integers of the output's dtype as they are. */
  template <typename Container> bool read_output(std::size_t index, Container &values) noexcept {
    using Value = std::remove_cv_t<std::remove_pointer_t<decltype(values.data())>>;
    static_assert(std::is_same_v<Value, float> || dtype_of<Value>() != 0, "float or an integer of 8 to 64 bits");
    if (!is_loaded()) {
      return false;
    }
    const auto place = static_cast<std::uint32_t>(index);
    if constexpr (std::is_same_v<Value, float>) {
      return note(edgeq_dequantize_output(&state_->context, place, values.data(), values.size()));
    } else if (output_info(index).dtype != dtype_of<Value>()) {
      return note(EDGEQ_ERROR_ARGUMENT);
    } else {
      return note(edgeq_get_output(&state_->context, place, values.data(), values.size() * sizeof(Value)));
    }
  }

  /* Output `index` as real values, in a new vector; empty on failure. */
  std::vector<float> output(std::size_t index) {
    std::vector<float> values(static_cast<std::size_t>(output_info(index).count));
    if (!read_output(index, values)) {
      values.clear();
    }
    return values;
  }

  /* Runs the golden vectors inside the artifact. */
  bool verify() noexcept {
    return is_loaded() && note(edgeq_verify(&state_->context, nullptr));
  }

  /* For everything else of edgeq.h; nullptr when nothing is loaded. */
  const edgeq_model *handle() const noexcept {
    return is_loaded() ? &state_->model : nullptr;
  }

  edgeq_context *context() noexcept {
    return is_loaded() ? &state_->context : nullptr;
  }

private:
  /* At a fixed address, since the context points to the model. */
  struct State {
    edgeq_model model{};
    edgeq_context context{};
    edgeq_pool *pool = nullptr;
    std::unique_ptr<std::uint8_t[]> memory;
    edgeq_status status = EDGEQ_OK;

    State() = default;
    State(const State &) = delete;
    State &operator=(const State &) = delete;

    ~State() {
      edgeq_pool_free(pool);
      edgeq_model_free(&model);
    }

    void open(const char *path, unsigned threads, const edgeq_load_options *options) noexcept {
      status = edgeq_model_load(&model, path, options);
      if (status == EDGEQ_OK && threads != 1) {
        status = edgeq_pool_create(&pool, threads);
      }
      if (status != EDGEQ_OK) {
        return;
      }
      const std::size_t size = edgeq_arena_size(&model);
      memory.reset(new (std::nothrow) std::uint8_t[size + EDGEQ_ALIGNMENT]);
      if (!memory) {
        status = EDGEQ_ERROR_MEMORY;
        return;
      }
      const auto start = reinterpret_cast<std::uintptr_t>(memory.get());
      const std::size_t gap = (EDGEQ_ALIGNMENT - start % EDGEQ_ALIGNMENT) % EDGEQ_ALIGNMENT;
      status = edgeq_context_init(&context, &model, memory.get() + gap, size, pool);
    }
  };

  bool is_loaded() const noexcept {
    return state_ && state_->context.model != nullptr;
  }

  bool note(edgeq_status status) noexcept {
    state_->status = status;
    return status == EDGEQ_OK;
  }

  std::unique_ptr<State> state_;
};

} // namespace edgeq

#endif
