// y = gelu(x W₁ + b₁) W₂ + b₂, joined to a residual by drop path where there is one, and its gradient, a few rows at a
// time: the hidden values, four times as many as x has, stay in the cache. For the gradient they are kept before GELU,
// or not written to memory at all and computed again: `keep` says which.
#include "panels.h"

namespace lab {
namespace {

// Hidden values of a chunk: 192 KiB, and as many of their gradients, leave a quarter of a second-level cache of 512 KiB
// to weights and rows. More rows would share packed weights, but push the hidden values out.
constexpr int64_t kChunkFloats = 49152;
// Columns of the widest panel, AVX-512's: widths are rounded up to it, so that chunks are the same on every processor.
constexpr int64_t kWidestPanel = 48;
// Rows of a chunk: whole tiles of the tallest, enough to be worth a task, few enough that there are tasks for all
// threads.
constexpr int64_t kTallestTile = 8, kFewestRows = 16, kMostRows = 128;
// Lines that are prefetched for each row of a panel: the next chunk has 6 k floats a row, of x, dy and 4 k hidden
// values, over 4 k / kPanel panels; 4.5 lines.
constexpr int64_t kLinesPerRow = 5;

// Rows are taken in chunks, whose hidden values and their gradients stay in the second-level cache, and lie in panels.
// Their size hangs on the number of hidden values alone, not on what fills a panel here: sums over rows go by chunks.
struct Chunks {
  int64_t rows, panels, size, count;
  Chunks(int64_t rows, int64_t hidden)
      : rows(rows),
        panels(Panels(hidden)),
        size(std::clamp<int64_t>(kChunkFloats / Width(hidden) / kTallestTile * kTallestTile, kFewestRows, kMostRows)),
        count((rows + size - 1) / size) {}
  int64_t Rows(int64_t chunk) const { return std::min(size, rows - chunk * size); }
  int64_t Begin(int64_t chunk) const { return chunk * size; }
  static int64_t Width(int64_t hidden) {
    return (std::max<int64_t>(1, hidden) + kWidestPanel - 1) / kWidestPanel * kWidestPanel;
  }
  // Floats before the chunk's.
  int64_t Offset(int64_t chunk) const { return chunk * size * panels * kPanel; }
};

struct FeedForward : Kernel {
  bool keep;
  explicit FeedForward(const Attrs& attrs) : keep(attrs.at("keep") != 0) {}

  void Run(Call& call) override {
    const int64_t m = call['m'], k = call['k'], hidden = call['h'], n = call['n'];
    const Chunks chunks(m, hidden);
    const float* x = call.In(0);
    const Join join(call, 5, m);
    float *y = call.Out(0), *kept = call.Out(1);
    const float *w1 = Pack(call, call.In(1), k, hidden), *b1 = Pack(call, call.In(2), 1, hidden),
                *w2 = Pack(call, call.In(3), hidden, n), *b2 = Pack(call, call.In(4), 1, n);
    ForEach(call, chunks.count, chunks.size * hidden * (k + n), [&](int64_t chunk) {
      const int64_t begin = chunks.Begin(chunk), rows = chunks.Rows(chunk), size = chunks.panels * rows * kPanel;
      float *activations = Scratch(size), *values = keep ? kept + chunks.Offset(chunk) : activations;
      ToPanels(x + begin * k, k, k, rows, w1, b1, hidden, values);
      Ahead ahead;
      ahead.Add(x, k, begin + rows, rows, m);
      for (int64_t i = 0; i < size; i += kLanes) {
        if (i % kPanel == 0) ahead.Fetch();
        const Lanes value = Load(values + i);
        Store(activations + i, value * Normal(value).distribution);
      }
      FromPanels(activations, hidden, rows, w2, b2, n, y + begin * n, n,
                 [&](int64_t row, int64_t first, int64_t columns, auto& acc) {
                   join.Finish(begin + row, first, columns, n, acc);
                 });
    });
  }
};

struct FeedForwardGrad : Kernel {
  void Run(Call& call) override {
    const int64_t m = call['m'], k = call['k'], hidden = call['h'], n = call['n'];
    const Chunks chunks(m, hidden);
    const float *all_dy = call.In(0), *x = call.In(1), *kept = call['r'] ? call.In(5) : nullptr;
    const RowScale scale(call, 6, m);
    const float *w1 = Pack(call, call.In(2), k, hidden), *b1 = Pack(call, call.In(3), 1, hidden),
                *w1_transposed = PackTransposed(call, call.In(2), hidden, k),
                *w2_transposed = PackTransposed(call, call.In(4), n, hidden);
    float* dx = call.Out(0);
    const int64_t panels = chunks.panels, blocks = std::min(chunks.count, SumBlocks(m));
    const int64_t size1 = panels * k * kPanel, size2 = panels * n * kPanel, biases = panels * kPanel + n;
    float *sums1 = call.Allocate(blocks * size1), *sums2 = call.Allocate(blocks * size2),
          *bias_sums = call.Allocate(blocks * biases);
    ForEach(call, blocks, 5 * m * hidden * (k + n) / (2 * std::max<int64_t>(1, blocks)), [&](int64_t block) {
      float *sum1 = sums1 + block * size1, *sum2 = sums2 + block * size2, *bias1 = bias_sums + block * biases,
            *bias2 = bias1 + panels * kPanel;
      std::fill_n(bias1, biases, 0.0f);
      float *activations = Scratch(chunks.size * (2 * panels * kPanel + n)),
            *gradients = activations + chunks.size * panels * kPanel,
            *scaled = gradients + chunks.size * panels * kPanel;
      const int64_t first = block * chunks.count / blocks, last = (block + 1) * chunks.count / blocks;
      for (int64_t chunk = first; chunk < last; chunk++) {
        const int64_t row = chunks.Begin(chunk), rows = chunks.Rows(chunk), end = std::min(m, chunks.Begin(last));
        const float *dy = scale.Rows(all_dy, row, rows, n, scaled),
                    *values = kept ? kept + chunks.Offset(chunk) : activations;
        if (!kept) ToPanels(x + row * k, k, k, rows, w1, b1, hidden, activations);
        ToPanels(dy, n, n, rows, w2_transposed, nullptr, hidden, gradients);
        Ahead ahead;
        ahead.Add(x, k, row + rows, rows, end);
        ahead.Add(all_dy, n, row + rows, rows, end);
        if (kept) ahead.Add(kept, panels * kPanel, row + rows, rows, end);
        for (int64_t panel = 0; panel < panels; panel++) {
          const int64_t at = panel * rows * kPanel;
          Gelu(rows, values + at, activations + at, gradients + at, bias1 + panel * kPanel, &ahead);
          AddOuter(dy, n, n, rows, activations + at, kPanel, chunk > first, sum2 + panel * n * kPanel);
          AddOuter(x + row * k, k, k, rows, gradients + at, kPanel, chunk > first, sum1 + panel * k * kPanel);
        }
        FromPanels(gradients, hidden, rows, w1_transposed, nullptr, k, dx + row * k, k, [](auto...) {});
        AddRows(dy, n, rows, n, bias2);
      }
    });
    AddBlocks(call, sums1, blocks, k, hidden, false, call.Out(1));
    AddBlocks(call, sums2, blocks, n, hidden, true, call.Out(3));
    AddSums(bias_sums, blocks, hidden, biases, call.Out(2));
    AddSums(bias_sums + panels * kPanel, blocks, n, biases, call.Out(4));
  }

 private:
  // One panel of what goes into GELU to what comes out, and of the latter's gradient to the former's, which is added up
  // too.
  static void Gelu(int64_t rows, const float* value, float* activation, float* gradient, float* bias_sum,
                   Ahead* ahead) {
    Lanes sum[kTileVectors] = {};
    for (int64_t row = 0; row < rows; row++) {
      ahead->Fetch(kLinesPerRow);
      for (int v = 0; v < kTileVectors; v++, value += kLanes, activation += kLanes, gradient += kLanes) {
        const Lanes in = Load(value);
        const Normal normal(in);
        const Lanes slope = Load(gradient) * Fma(in, normal.density, normal.distribution);
        Store(activation, in * normal.distribution);
        Store(gradient, slope);
        sum[v] += slope;
      }
    }
    for (int v = 0; v < kTileVectors; v++) Store(bias_sum + v * kLanes, Load(bias_sum + v * kLanes) + sum[v]);
  }
};

// What is kept has a row for each of x, if any, in as many whole panels as hold the hidden values.
void FeedForwardSizes(Sizes& sizes, const Attrs& attrs) {
  RowsByImages(sizes, 'm', 's');
  if (const auto keep = attrs.find("keep"); keep != attrs.end()) {
    sizes.Set('r', keep->second ? sizes['m'] : 0);
  } else if (sizes['r'] != kUnknown && sizes['r'] != 0) {
    sizes.Set('r', sizes['m']);
  }
  if (sizes['h'] != kUnknown) sizes.Set('p', Panels(sizes['h']) * kPanel);
}

const Declared feed_forward{"LabFeedForward", FeedForwardSizes, Make<FeedForward>};
const Declared feed_forward_grad{"LabFeedForwardGrad", FeedForwardSizes, Make<FeedForwardGrad>};

}  // namespace
}  // namespace lab
