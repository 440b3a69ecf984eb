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

// Rows of a block, at least: fewer would give more threads work, but each block adds a sum of the weights' size.
constexpr int64_t kSumRows = 384;

// Rows are divided into blocks by their number alone, each block has a sum of its own, and these are added in order:
// the same bytes on one thread and on many.
inline int64_t SumBlocks(int64_t rows) { return std::clamp<int64_t>(rows / kSumRows, 1, kBlocks); }

// What is divided by rows or columns alike is divided into so many tasks: enough for all threads, each long enough.
constexpr int64_t kTasks = 8;

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
