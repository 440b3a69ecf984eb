// What graphs of training and evaluation take beside the blocks' own kernels: matmuls of any kind, sums, softmax, exp,
// log and roots. TensorFlow's (oneDNN, Eigen) are as fast, but their bytes hang on the instruction set.
#include "panels.h"

namespace lab {
namespace {

// a [..., m, k] (or [..., k, m]) times b [..., k, n] (or [..., n, k]) → [..., m, n]. One accumulator for each value.
struct MatMul : Kernel {
  bool transpose_a, transpose_b;
  explicit MatMul(const Attrs& attrs)
      : transpose_a(attrs.at("transpose_a") != 0), transpose_b(attrs.at("transpose_b") != 0) {}

  void Run(Call& call) override {
    const int64_t matrices = call.sizes().Rows(), m = call['m'], k = call['k'], n = call['n'];
    if (matrices * m * n == 0) return;
    const float *a = call.In(0), *b = call.In(1);
    float* y = call.Out(0);
    if (m <= kFewRows) {
      const int64_t blocks = FewRowsBlocks(n);
      return ForEach(call, matrices * blocks, m * k * n / blocks, [&](int64_t task) {
        const int64_t matrix = task / blocks;
        FewRows(a + matrix * m * k, transpose_a, m, k, n, b + matrix * k * n, transpose_b, nullptr, task % blocks,
                y + matrix * m * n);
      });
    }
    float* packed = call.Allocate(matrices * PackedSize(k, n));
    const int64_t panels = Panels(n), size = PackedSize(k, n);
    ForEach(call, matrices * panels, k * kPanel, [&](int64_t task) {
      const int64_t matrix = task / panels, first = task % panels * kPanel, columns = std::min(kPanel, n - first);
      const float* from = b + matrix * k * n;
      float* panel = packed + matrix * size + first * k;
      transpose_b ? PackPanelTransposed(from + first * k, k, k, columns, panel)
                  : PackPanel(from + first, n, k, columns, panel);
    });
    const int64_t chunks = (m + kRows - 1) / kRows;
    ForEach(call, matrices * chunks * panels, std::min(m, kRows) * k * kPanel, [&](int64_t task) {
      const int64_t first = task % panels * kPanel, columns = std::min(kPanel, n - first);
      const int64_t begin = task / panels % chunks * kRows, matrix = task / panels / chunks;
      const float *left = a + matrix * m * k, *panel = packed + matrix * size + first * k;
      float* out = y + matrix * m * n + first;
      ForTiles(std::min(kRows, m - begin), columns, [&](auto R, auto V, int64_t r) {
        const int64_t row = begin + r;
        Lanes acc[R][V];
        Start(static_cast<const float*>(nullptr), acc);
        transpose_a ? MultiplyAdd<Left::kColumns>(left + row, m, k, panel, acc)
                    : MultiplyAdd<Left::kRows>(left + row * k, k, k, panel, acc);
        StoreTile(acc, out + row * n, n, columns);
      });
    });
  }

 private:
  static constexpr int64_t kRows = 64;  // of a task
};

// x [o, r, i] → [o, i]: sums, or means, over the middle.
struct Sum : Kernel {
  bool mean;
  explicit Sum(const Attrs& attrs) : mean(attrs.at("mean") != 0) {}

  void Run(Call& call) override {
    const int64_t outer = call['o'], count = call['r'], inner = call['i'];
    const float* x = call.In(0);
    float* y = call.Out(0);
    if (inner == 1 && count > kBlock && outer == 1) {
      const int64_t blocks = (count + kBlock - 1) / kBlock;
      float* partial = call.Allocate(blocks);
      ForEach(call, blocks, kBlock, [&](int64_t block) {
        partial[block] = Row(x + block * kBlock, std::min(kBlock, count - block * kBlock));
      });
      y[0] = Row(partial, blocks);
    } else if (inner == 1) {
      ForEach(call, outer, count, [&](int64_t o) { y[o] = Row(x + o * count, count); });
    } else if (outer < kBlocks / 2) {
      for (int64_t o = 0; o < outer; o++) {
        SumRows(call, count, inner, y + o * inner,
                [&](int64_t row, float* sum) { AddTo(sum, x + (o * count + row) * inner, inner); });
      }
    } else {
      ForEach(call, outer, count * inner, [&](int64_t o) {
        float* sum = y + o * inner;
        std::fill_n(sum, inner, 0.0f);
        AddRows(x + o * count * inner, inner, count, inner, sum);
      });
    }
    if (mean) {
      for (int64_t i = 0; i < outer * inner; i++) y[i] /= static_cast<float>(count);
    }
  }

 private:
  static constexpr int64_t kBlock = 4096;  // values of a long sum that are added by themselves

  static float Row(const float* x, int64_t count) {
    RowSum sum;
    ForSummed(count, [&](auto part, auto i) { sum.parts[i] += part.From(x); });
    return sum.Total();
  }
};

// Over the last axis; the logarithm of it where `log`.
struct Softmax : Kernel {
  bool log;
  explicit Softmax(const Attrs& attrs) : log(attrs.at("log") != 0) {}

  void Run(Call& call) override {
    const int64_t width = call['c'], rows = call.sizes().Rows();
    if (width == 0) return;
    const float* x = call.In(0);
    float* y = call.Out(0);
    ForBlocks(call, rows, 16 * width, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const float *in = x + row * width, shift = Largest(in, width);
        float* out = y + row * width;
        RowSum sum;
        ForSummed(width, [&](auto part, auto i) {
          const Lanes shifted = part.From(in) - shift, power = part.Of(Power(shifted));
          part.To(out, log ? shifted : power);
          sum.parts[i] += power;
        });
        const float total = sum.Total(), logarithm = Log(Broadcast(total))[0], factor = 1.0f / total;
        ForVectors(width, [&](auto part) { part.To(out, log ? part.From(out) - logarithm : part.From(out) * factor); });
      }
    });
  }
};

template <typename F>
struct Elementwise : Kernel {
  void Run(Call& call) override {
    const int64_t size = call.sizes().Rows(), vectors = size / kSumLanes;
    const float* x = call.In(0);
    float* y = call.Out(0);
    const auto apply = [&](int64_t begin, int64_t count) {
      ForVectors(count, [&](auto part) { part.To(y + begin, F()(part.From(x + begin))); });
    };
    ForBlocks(call, vectors, 16 * kSumLanes,
              [&](int64_t, int64_t begin, int64_t end) { apply(begin * kSumLanes, (end - begin) * kSumLanes); });
    apply(vectors * kSumLanes, size % kSumLanes);
  }
};

struct ExpOf {
  Lanes operator()(Lanes x) const {
    const Lanes half = Power(x > 100.0f ? Broadcast(50.0f) : 0.5f * x), below = Power(x);
    return x > 0.0f ? half * half : below;
  }
};
struct LogOf {
  Lanes operator()(Lanes x) const { return Log(x); }
};
struct SqrtOf {
  Lanes operator()(Lanes x) const { return SquareRoot(x); }
};
struct RsqrtOf {
  Lanes operator()(Lanes x) const { return 1.0f / SquareRoot(x); }
};

void MatMulSizes(Sizes& sizes, const Attrs& attrs) {
  const bool a = attrs.at("transpose_a") != 0, b = attrs.at("transpose_b") != 0;
  sizes.Set('m', sizes[a ? 'y' : 'x']);
  sizes.Set('k', sizes[a ? 'x' : 'y']);
  sizes.Set('k', sizes[b ? 'v' : 'u']);
  sizes.Set('n', sizes[b ? 'u' : 'v']);
}

const Declared mat_mul{"LabMatMul", MatMulSizes, Make<MatMul>};
const Declared sum{"LabSum", NothingMore, Make<Sum>};
const Declared softmax{"LabSoftmax", NothingMore, Make<Softmax>};
const Declared exponential{"LabExp", NothingMore, Make<Elementwise<ExpOf>>};
const Declared logarithm{"LabLog", NothingMore, Make<Elementwise<LogOf>>};
const Declared root{"LabSqrt", NothingMore, Make<Elementwise<SqrtOf>>};
const Declared inverse_root{"LabRsqrt", NothingMore, Make<Elementwise<RsqrtOf>>};

}  // namespace
}  // namespace lab
