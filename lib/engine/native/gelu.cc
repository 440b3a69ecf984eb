// Bias and activation in one pass: y = gelu(x + bias), the exact GELU x · Φ(x), and its gradient in closed form,
// Φ(x) + x · φ(x). Stock ops take five passes for the one and fourteen for the other.
#include "kernels.h"

namespace lab {
namespace {

struct BiasGelu : Kernel {
  void Run(Call& call) override {
    const int64_t width = call['c'], rows = call.sizes().Rows();
    const float *x = call.In(0), *bias = call.In(1);
    float* y = call.Out(0);
    ForBlocks(call, rows, 4 * width, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        ForVectors(width, [&](auto part) {
          const Lanes in = part.From(x + row * width) + part.From(bias);
          part.To(y + row * width, in * Normal(in).distribution);
        });
      }
    });
  }
};

struct BiasGeluGrad : Kernel {
  void Run(Call& call) override {
    const int64_t width = call['c'], rows = call.sizes().Rows();
    const float *dy = call.In(0), *x = call.In(1), *bias = call.In(2);
    float* dx = call.Out(0);
    SumRows(call, rows, width, call.Out(1), [&](int64_t row, float* sum) {
      ForVectors(width, [&](auto part) {
        const Lanes in = part.From(x + row * width) + part.From(bias);
        const Normal normal(in);
        const Lanes out = part.From(dy + row * width) * Fma(in, normal.density, normal.distribution);
        part.To(dx + row * width, out);
        part.To(sum, part.From(sum) + out);
      });
    });
  }
};

const Declared gelu{"LabBiasGelu", NothingMore, Make<BiasGelu>};
const Declared gelu_grad{"LabBiasGeluGrad", NothingMore, Make<BiasGeluGrad>};

}  // namespace
}  // namespace lab
