// Weights in panels (see tile.h), and sums over the rows of a batch, for the gradients of weights.
#pragma once

#include "kernels.h"
#include "tile.h"

namespace lab {

// Memory for the time of a kernel, from TensorFlow's pool, which does not give it back to the system each time.
class Temporary {
 public:
  Temporary(tensorflow::OpKernelContext* context, int64_t size) {
    context->SetStatus(context->allocate_temp(tensorflow::DT_FLOAT, tensorflow::TensorShape({size}), &tensor_));
    data_ = tensor_.flat<float>().data();
  }
  float* get() const { return data_; }
  float& operator[](int64_t at) const { return data_[at]; }

 private:
  tensorflow::Tensor tensor_;
  float* data_;
};

// Drop path: what a branch's rows are multiplied by, one value for each image, where the kernel has such an input.
class RowScale {
 public:
  RowScale(tensorflow::OpKernelContext* context, int input, int64_t rows) {
    if (context->num_inputs() <= input) return;
    scale_ = Data(context, input);
    rows_per_picture_ = std::max<int64_t>(1, rows / std::max<int64_t>(1, context->input(input).NumElements()));
  }
  explicit operator bool() const { return scale_; }
  float Of(int64_t row) const { return scale_[row / rows_per_picture_]; }

  // `count` rows of x [·, n] from `first` on: themselves, or multiplied, in `scaled`.
  const float* Rows(const float* x, int64_t first, int64_t count, int64_t n, float* scaled) const {
    if (!scale_) return x + first * n;
    for (int64_t row = 0; row < count; row++)
      Vector(scaled + row * n, n) = ConstVector(x + (first + row) * n, n) * Of(first + row);
    return scaled;
  }

 private:
  const float* scale_ = nullptr;
  int64_t rows_per_picture_ = 1;
};

// Residual epilogue of a branch: residual + scale · rows, where the kernel has these inputs, from `residual` on.
class Join {
 public:
  Join(tensorflow::OpKernelContext* context, int residual, int64_t rows)
      : residual_(context->num_inputs() > residual ? Data(context, residual) : nullptr),
        scale_(context, residual + 1, rows) {}

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

// w [rows, columns] in panels.
inline Temporary Pack(tensorflow::OpKernelContext* context, const float* w, int64_t rows, int64_t columns) {
  Temporary panels(context, Panels(columns) * rows * kPanel);
  ForEach(context, Panels(columns), rows * kPanel, [&](int64_t panel) {
    const int64_t first = panel * kPanel;
    PackPanel(w + first, columns, rows, std::min(kPanel, columns - first), &panels[first * rows]);
  });
  return panels;
}

// w [columns, rows], transposed, in panels.
inline Temporary PackTransposed(tensorflow::OpKernelContext* context, const float* w, int64_t rows, int64_t columns) {
  Temporary panels(context, Panels(columns) * rows * kPanel);
  ForEach(context, Panels(columns), rows * kPanel, [&](int64_t panel) {
    const int64_t first = panel * kPanel;
    PackPanelTransposed(w + first * rows, rows, rows, std::min(kPanel, columns - first), &panels[first * rows]);
  });
  return panels;
}

// Rows are divided into blocks by their number alone, each block has a sum of its own, and these are added in order:
// the same bytes on one thread and on many. A block is long enough that a sum of the weights' size costs little beside
// what it sums.
inline int64_t SumBlocks(int64_t rows) { return std::clamp<int64_t>(rows / 384, 1, kBlocks); }

// The blocks' sums, [rows, columns] in panels each, added and written by rows, or by columns where `transposed`.
inline void AddBlocks(tensorflow::OpKernelContext* context, const float* sums, int64_t blocks, int64_t rows,
                      int64_t columns, bool transposed, float* total) {
  const int64_t panels = Panels(columns), size = panels * rows * kPanel, parts = std::min<int64_t>(rows, 8);
  ForEach(context, panels * parts, blocks * rows * kPanel / parts, [&](int64_t task) {
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
