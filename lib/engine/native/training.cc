// What else a training step does over and over: the gradient of a bias, and the optimizer's update of a parameter.
#include "kernels.h"

namespace lab {
namespace {

struct ChannelSum : Kernel {
  void Run(Call& call) override {
    const int64_t width = call['c'];
    const float* x = call.In(0);
    SumRows(call, call.sizes().Rows(), width, call.Out(0),
            [&](int64_t row, float* sum) { AddTo(sum, x + row * width, width); });
  }
};

// x [b, …] + branch [b, …] · scale [b]: a residual with drop path.
struct AddScaled : Kernel {
  void Run(Call& call) override {
    const int64_t images = call['b'], size = call['z'];
    const float *x = call.In(0), *branch = call.In(1), *scale = call.In(2);
    float* y = call.Out(0);
    ForBlocks(call, images, size, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++) {
        const int64_t at = n * size;
        ForVectors(size, [&](auto part) {
          part.To(y + at, Fma(part.From(branch + at), Broadcast(scale[n]), part.From(x + at)));
        });
      }
    });
  }
};

// One pass over parameter, moments and gradient: m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², p ← keep · p − step · m
// / (√v + ε).
struct Adam : Kernel {
  float beta1, beta2, rest1, rest2;  // rest = 1 − β, which float32 would not give from β
  explicit Adam(const Attrs& attrs)
      : beta1(attrs.at("beta1")), beta2(attrs.at("beta2")), rest1(attrs.at("rest1")), rest2(attrs.at("rest2")) {}

  void Run(Call& call) override {
    const float *param = call.In(0), *mean = call.In(1), *square = call.In(2), *grad = call.In(3);
    const float step = *call.In(4), epsilon = *call.In(5), keep = *call.In(6);
    float *new_param = call.Out(0), *new_mean = call.Out(1), *new_square = call.Out(2);
    const auto update = [&](auto part, auto store) {
      const Lanes g = part.From(grad), m = Fma(beta1, part.From(mean), rest1 * g),
                  v = Fma(beta2, part.From(square), rest2 * (g * g));
      store(new_mean, m);
      store(new_square, v);
      store(new_param, Fma(keep, part.From(param), -(step * m / (SquareRoot(v) + epsilon))));
    };
    const int64_t size = call.sizes().Rows(), vectors = size / kLanes;
    ForBlocks(call, vectors, 4 * kLanes, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t at = begin * kLanes; at < end * kLanes; at += kLanes) {
        update(Whole{at},
               [&](float* to, Lanes values) { size < kLarge ? Store(to + at, values) : Stream(to + at, values); });
      }
      StreamsEnd();
    });
    if (const Part rest{vectors * kLanes, size % kLanes}; rest.count)
      update(rest, [&](float* to, Lanes values) { rest.To(to, values); });
  }

 private:
  static constexpr int64_t kLarge = 1 << 14;  // floats that a cache would not hold until the next step
};

const Declared channel_sum{"LabChannelSum", NothingMore, Make<ChannelSum>};
const Declared add_scaled{"LabAddScaled", [](Sizes& sizes, const Attrs&) { sizes.Set('z', sizes.Rows()); },
                          Make<AddScaled>};
const Declared adam{"LabAdam", NothingMore, Make<Adam>};

}  // namespace
}  // namespace lab
