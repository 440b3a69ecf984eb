// Weights in panels (see tile.h), and sums over the rows of a batch, for the gradients of weights.
#pragma once

#include "kernels.h"
#include "tile.h"

namespace lab {

// to [count] = from · factor
inline void Multiply(float* to, const float* from, float factor, int64_t count) {
  ForVectors(count, [&](auto part) { part.To(to, part.From(from) * factor); });
}

// Drop path: what a branch's rows are multiplied by, one value for each image, where the kernel has such an input. The
// rows divide by the images (see RowsByImages).
class RowScale {
 public:
  RowScale(const Call& call, size_t input, int64_t rows)
      : scale_(call.In(input)),
        rows_per_image_(scale_ ? std::max<int64_t>(1, rows / std::max<int64_t>(1, call['s'])) : 1) {}
  explicit operator bool() const { return scale_; }
  float Of(int64_t row) const { return scale_[row / rows_per_image_]; }

  // `count` rows of x [·, n] from `first` on: themselves, or multiplied, in `scaled`.
  const float* Rows(const float* x, int64_t first, int64_t count, int64_t n, float* scaled) const {
    if (!scale_) return x + first * n;
    for (int64_t row = 0; row < count; row++) Multiply(scaled + row * n, x + (first + row) * n, Of(first + row), n);
    return scaled;
  }

 private:
  const float* scale_;
  int64_t rows_per_image_;
};

// Residual epilogue of a branch: residual + scale · rows, where the kernel has these inputs, from `residual` on.
class Join {
 public:
  Join(const Call& call, size_t residual, int64_t rows)
      : residual_(call.In(residual)), scale_(call, residual + 1, rows) {}

  explicit operator bool() const { return residual_ || scale_; }

  // acc: columns from `first` on of `stride`, rows from `row` on.
  template <int R, int V>
  [[gnu::always_inline]] void Finish(int64_t row, int64_t first, int64_t columns, int64_t stride,
                                     Lanes (&acc)[R][V]) const {
    if (scale_) {
      for (int r = 0; r < R; r++) {
        for (auto& values : acc[r]) values *= scale_.Of(row + r);
      }
    }
    if (residual_) AddTile(residual_ + row * stride + first, stride, columns, acc);
  }

 private:
  const float* residual_;
  RowScale scale_;
};

inline int64_t PackedSize(int64_t rows, int64_t columns) { return Panels(columns) * rows * kPanel; }

// w [rows, columns] in panels.
inline const float* Pack(Call& call, const float* w, int64_t rows, int64_t columns, float* panels) {
  ForEach(call, Panels(columns), rows * kPanel, [&](int64_t panel) {
    const int64_t first = panel * kPanel;
    PackPanel(w + first, columns, rows, std::min(kPanel, columns - first), panels + first * rows);
  });
  return panels;
}
inline const float* Pack(Call& call, const float* w, int64_t rows, int64_t columns) {
  return Pack(call, w, rows, columns, call.Allocate(PackedSize(rows, columns)));
}

// w [columns, rows], transposed, in panels.
inline const float* PackTransposed(Call& call, const float* w, int64_t rows, int64_t columns) {
  float* panels = call.Allocate(PackedSize(rows, columns));
  ForEach(call, Panels(columns), rows * kPanel, [&](int64_t panel) {
    const int64_t first = panel * kPanel;
    PackPanelTransposed(w + first * rows, rows, rows, std::min(kPanel, columns - first), panels + first * rows);
  });
  return panels;
}

// What is divided by rows or columns alike is divided into so many tasks: enough for all threads, each long enough.
constexpr int64_t kTasks = 8;

// Up to so many rows of x read each weight where it lies: more are worth packing them for. The classifier of the
// tutorial's model (150,528 × 102), packed, would be written to memory and read again for each four rows.
constexpr int64_t kFewRows = 64;

// Columns of y are divided into so many blocks.
inline int64_t FewRowsBlocks(int64_t n) {
  return std::clamp<int64_t>(Panels(n) / 2, 1, std::max<int64_t>(kTasks, n / 128));
}

// y [m, n] = bias + x [m, k] (or [k, m]) · w [k, n], or w [n, k], for the columns of one block. Each sum is in order of
// k, as everywhere, and waits in memory between steps of it that the first-level cache holds.
inline void FewRows(const float* x, bool transpose_x, int64_t m, int64_t k, int64_t n, const float* w, bool transpose_w,
                    const float* bias, int64_t block, float* y) {
  constexpr int64_t kDepth = 256;
  const int64_t blocks = FewRowsBlocks(n), panels = Panels(n),
                end = std::min(n, (block + 1) * panels / blocks * kPanel);
  int64_t p = 0;
  do {
    const int64_t depth = std::min(kDepth, k - p);
    for (int64_t first = block * panels / blocks * kPanel; first < end; first += kPanel) {
      const int64_t columns = std::min(kPanel, n - first);
      const float *right = w + p * n + first, *packed = nullptr;
      if (transpose_w) {
        float* panel = Scratch(kDepth * kPanel);
        PackPanelTransposed(w + first * k + p, k, depth, columns, panel);
        packed = panel;
      }
      ForTiles(m, columns, [&](auto R, auto V, int64_t row) {
        float* to = y + row * n + first;
        Lanes acc[R][V];
        if (p > 0)
          LoadTile(to, n, columns, acc);
        else if (bias)
          LoadTile(bias + first, 0, columns, acc);
        else
          Start(static_cast<const float*>(nullptr), acc);
        const auto multiply = [&](auto left, const float* from, int64_t stride) {
          packed ? MultiplyAdd<left>(from, stride, depth, packed, acc)
                 : MultiplyAdd<left>(from, stride, depth, right, acc, nullptr, n, columns - (V - 1) * kLanes);
        };
        if (transpose_x)
          multiply(std::integral_constant<Left, Left::kColumns>(), x + p * m + row, m);
        else
          multiply(std::integral_constant<Left, Left::kRows>(), x + row * k + p, k);
        StoreTile(acc, to, n, columns);
      });
    }
    p += depth;
  } while (p < k);  // once without any depth, for the bias
}

// Rows of a block, at least: fewer would give more threads work, but each block adds a sum of the weights' size.
constexpr int64_t kSumRows = 384;

// Rows are divided into blocks by their number alone, each block has a sum of its own, and these are added in order:
// the same bytes on one thread and on many.
inline int64_t SumBlocks(int64_t rows) { return std::clamp<int64_t>(rows / kSumRows, 1, kBlocks); }

// The blocks' sums, [rows, columns] in panels each, added and written by rows, or by columns where `transposed`.
inline void AddBlocks(Call& call, const float* sums, int64_t blocks, int64_t rows, int64_t columns, bool transposed,
                      float* total) {
  const int64_t panels = Panels(columns), size = panels * rows * kPanel, parts = std::min(rows, kTasks);
  if (parts == 0) return;
  ForEach(call, panels * parts, blocks * rows * kPanel / parts, [&](int64_t task) {
    const int64_t first = task / parts * kPanel, count = std::min(kPanel, columns - first), part = task % parts;
    for (int64_t row = part * rows / parts; row < (part + 1) * rows / parts; row++) {
      const float* at = sums + first * rows + row * kPanel;
      Lanes sum[kTileVectors] = {};
      for (int64_t block = 0; block < blocks; block++) {
        for (int v = 0; v < kTileVectors; v++) sum[v] += Load(at + block * size + v * kLanes);
      }
      if (!transposed) {
        std::memcpy(total + row * columns + first, sum, count * sizeof(float));
        continue;
      }
      for (int64_t column = 0; column < count; column++)
        total[(first + column) * rows + row] = sum[column / kLanes][column % kLanes];
    }
  });
}

}  // namespace lab
