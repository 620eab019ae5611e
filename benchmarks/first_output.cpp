/* first_output MODEL.edgeq: nanoseconds from opening an artifact to its first output, with zeros as input. */
#include <chrono>
#include <cstdio>
#include <vector>

#include <edgeq/edgeq.hpp>

int main(int argc, char **argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: first_output MODEL.edgeq\n");
    return 2;
  }
  const auto start = std::chrono::steady_clock::now();
  edgeq::Model model(argv[1]);
  if (!model.run(std::vector<float>(model.inputs() == 1 ? model.input_info(0).count : 0))) {
    std::fprintf(stderr, "%s: %s\n", argv[1], model.message());
    return 2;
  }
  const std::vector<float> outputs = model.output(0);
  const auto end = std::chrono::steady_clock::now();
  std::printf("%lld\n", static_cast<long long>(std::chrono::nanoseconds(end - start).count()));
  return outputs.empty();
}
