// classify MODEL.edgeq [INPUT.f32]: runs a model on raw float32 values (zeros without a file), prints the largest
// outputs.
#include <algorithm>
#include <cstdio>
#include <numeric>
#include <vector>

#include <edgeq/edgeq.hpp>

static bool read_floats(const char *path, std::vector<float> &values) {
  std::FILE *file = std::fopen(path, "rb");
  if (file == nullptr) {
    return false;
  }
  const bool is_complete = std::fread(values.data(), sizeof(float), values.size(), file) == values.size();
  std::fclose(file);
  return is_complete;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: classify MODEL.edgeq [INPUT.f32]\n");
    return 2;
  }
  edgeq::Model model(argv[1]);
  std::vector<float> pixels(model.inputs() == 1 ? model.input_info(0).count : 0);
  if (argc > 2 && !read_floats(argv[2], pixels)) {
    std::fprintf(stderr, "%s doesn't hold %zu float32 values\n", argv[2], pixels.size());
    return 2;
  }
  if (!model.run(pixels)) {
    std::fprintf(stderr, "%s: %s\n", argv[1], model.message());
    return 2;
  }
  const std::vector<float> scores = model.output(0);
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  for (std::size_t place = 0; place < std::min<std::size_t>(order.size(), 3); place++) {
    std::printf("%zu %.6g\n", order[place], static_cast<double>(scores[order[place]]));
  }
  return 0;
}
