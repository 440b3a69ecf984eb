// GEMMs of activations [m, k] and weights [k, n], m large: with bias, GELU, residual and drop path in one pass, and
// both gradients in one. The networks here have tall GEMMs of few columns, where oneDNN reaches half of the
// processor (see tile.h).
#include <mutex>

#include "panels.h"

namespace lab {
namespace {

constexpr int64_t kChunk = 128;  // rows that stay in the second-level cache while the panels pass by

// acc = GELU(acc)
template <int R, int V>
[[gnu::always_inline]] inline void Activate(Lanes (&acc)[R][V]) {
  for (auto& sums : acc) {
    for (auto& sum : sums) sum *= Normal(sum).distribution;
  }
}

struct Product : Kernel {
  bool gelu, constant;
  explicit Product(const Attrs& attrs) : gelu(attrs.at("gelu") != 0), constant(attrs.at("constant_weight") != 0) {}

  void Run(Call& call) override {
    const int64_t m = call['m'], k = call['k'], n = call['n'];
    const float* x = call.In(0);
    const Join join(call, 3, m);
    float* y = call.Out(0);
    if (m <= kFewRows && !constant) return RunFewRows(call, join);
    // In panels: packed when the kernel first runs if they are constant, else each time.
    const float *weights, *bias;
    if (constant) {
      std::call_once(once, [&] {
        kept_weights = AlignedFloats(PackedSize(k, n));
        kept_bias = AlignedFloats(PackedSize(1, n));
        Pack(call, call.In(1), k, n, kept_weights.get());
        Pack(call, call.In(2), 1, n, kept_bias.get());
        kept_rows = k, kept_columns = n;
      });
      if (kept_rows != k || kept_columns != n) throw Refused("LabProduct: its constant weight changed its shape");
      weights = kept_weights.get(), bias = kept_bias.get();
    } else {
      weights = Pack(call, call.In(1), k, n), bias = Pack(call, call.In(2), 1, n);
    }
    const int64_t panels = Panels(n), chunks = (m + kChunk - 1) / kChunk;
    // Few rows leave the columns to be divided, so that there is work for all threads.
    const int64_t groups = std::min(panels, std::max<int64_t>(1, kTasks / std::max<int64_t>(1, chunks)));
    ForEach(call, chunks * groups, m * k * n / std::max<int64_t>(1, chunks * groups), [&](int64_t task) {
      const int64_t chunk = task / groups, group = task % groups;
      const int64_t begin = chunk * m / chunks, rows = (chunk + 1) * m / chunks - begin;
      Ahead ahead;
      ahead.Add(x, k, begin + rows, rows, m);
      for (int64_t panel = group * panels / groups; panel < (group + 1) * panels / groups; panel++) {
        const int64_t first = panel * kPanel, columns = std::min(kPanel, n - first);
        ForTiles(rows, columns, [&](auto R, auto V, int64_t row) {
          ahead.Fetch(R * k / kLanes + 1);
          Lanes acc[R][V];
          Start(bias + first, acc);
          MultiplyAdd<Left::kRows>(x + (begin + row) * k, k, k, weights + first * k, acc);
          if (gelu) Activate(acc);
          join.Finish(begin + row, first, columns, n, acc);
          StoreTile(acc, y + (begin + row) * n + first, n, columns);
        });
      }
    });
  }

 private:
  void RunFewRows(Call& call, const Join& join) const {
    const int64_t m = call['m'], k = call['k'], n = call['n'], blocks = FewRowsBlocks(n), panels = Panels(n);
    float* y = call.Out(0);
    ForEach(call, blocks, m * k * n / blocks, [&](int64_t block) {
      FewRows(call.In(0), false, m, k, n, call.In(1), false, call.In(2), block, y);
      const int64_t begin = block * panels / blocks * kPanel, end = std::min(n, (block + 1) * panels / blocks * kPanel);
      for (int64_t first = begin; (gelu || join) && first < end; first += kPanel) {
        const int64_t columns = std::min(kPanel, end - first);
        ForTiles(m, columns, [&](auto R, auto V, int64_t row) {
          Lanes acc[R][V];
          LoadTile(y + row * n + first, n, columns, acc);
          if (gelu) Activate(acc);
          join.Finish(row, first, columns, n, acc);
          StoreTile(acc, y + row * n + first, n, columns);
        });
      }
    });
  }

  std::once_flag once;
  Aligned kept_weights, kept_bias;
  int64_t kept_rows = 0, kept_columns = 0;
};

// dx = dy · Wᵀ, dW = xᵀ · dy and the bias' gradient, chunk by chunk, so that dy comes from memory once.
struct ProductGrad : Kernel {
  void Run(Call& call) override {
    const int64_t m = call['m'], k = call['k'], n = call['n'];
    const float *all_dy = call.In(0), *x = call.In(1);
    const RowScale scale(call, 3, m);
    float *dx = call.Out(0), *dweight = call.Out(1), *dbias = call.Out(2);
    const float* transposed = PackTransposed(call, call.In(2), n, k);
    // In the product of dW the side whose vectors are fuller lies in panels, and the other one is broadcast.
    const bool swapped = Panels(k) * n < Panels(n) * k;
    const int64_t width = swapped ? k : n, height = swapped ? n : k, panels = Panels(width), depths = Panels(k);
    const int64_t blocks = SumBlocks(m),
                  groups = std::max<int64_t>(1, std::min(std::min(panels, depths), kBlocks / blocks));
    float *sums = call.Allocate(blocks * panels * height * kPanel), *biases = call.Allocate(blocks * n);
    const int64_t chunk = k + n < 2 * kChunk ? kChunk : kChunk / 2;
    ForEach(call, blocks * groups, 2 * m * k * n / (blocks * groups), [&](int64_t task) {
      const int64_t block = task / groups, group = task % groups, begin = block * m / blocks,
                    end = (block + 1) * m / blocks;
      float *sum = sums + block * panels * height * kPanel, *panel = Scratch(chunk * (kPanel + n)),
            *scaled = panel + chunk * kPanel;
      if (begin == end) std::fill_n(sum, panels * height * kPanel, 0.0f);
      if (group == 0) std::fill_n(biases + block * n, n, 0.0f);
      for (int64_t row = begin; row < end; row += chunk) {
        const int64_t rows = std::min(chunk, end - row);
        Ahead ahead;
        ahead.Add(all_dy, n, row + rows, rows, end);
        ahead.Add(x, k, row + rows, rows, end);
        const float* dy = scale.Rows(all_dy, row, rows, n, scaled);
        for (int64_t first = group * depths / groups * kPanel; first < (group + 1) * depths / groups * kPanel;
             first += kPanel) {
          const int64_t columns = std::min(kPanel, k - first);
          ForTiles(rows, columns, [&](auto R, auto V, int64_t r) {
            Lanes acc[R][V];
            Start(static_cast<const float*>(nullptr), acc);
            MultiplyAdd<Left::kRows>(dy + r * n, n, n, transposed + first * n, acc, &ahead);
            StoreTile(acc, dx + (row + r) * k + first, k, columns);
          });
        }
        for (int64_t first = group * panels / groups * kPanel; first < (group + 1) * panels / groups * kPanel;
             first += kPanel) {
          const int64_t columns = std::min(kPanel, width - first);
          PackPanel((swapped ? x + row * k : dy) + first, width, rows, columns, panel);
          AddOuter(swapped ? dy : x + row * k, height, height, rows, panel, columns, row > begin, sum + first * height);
        }
        if (group == 0) AddRows(dy, n, rows, n, biases + block * n);
      }
    });
    AddBlocks(call, sums, blocks, height, width, swapped, dweight);
    AddSums(biases, blocks, n, n, dbias);
  }
};

void RowScaleSizes(Sizes& sizes, const Attrs&) { RowsByImages(sizes, 'm', 's'); }

const Declared product{"LabProduct", RowScaleSizes, Make<Product>};
const Declared product_grad{"LabProductGrad", RowScaleSizes, Make<ProductGrad>};

}  // namespace
}  // namespace lab
