// What the fused kernels share. They are TensorFlow ops of their own ("Lab…"), found by eager tfjs-node and by graphs
// alike. lib/engine/fused.ts is their face in TypeScript; there stands, for each, the composition of stock ops that it
// replaces.
#pragma once

#include <algorithm>
#include <vector>

#include "pool.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace lab {

using Vector = Eigen::Map<Eigen::ArrayXf>;
using ConstVector = Eigen::Map<const Eigen::ArrayXf>;

inline const float* Data(tensorflow::OpKernelContext* context, int input) {
  return context->input(input).flat<float>().data();
}

inline float* Output(tensorflow::OpKernelContext* context, int output, const tensorflow::TensorShape& shape) {
  tensorflow::Tensor* tensor = nullptr;
  context->SetStatus(context->allocate_output(output, shape, &tensor));
  return tensor ? tensor->flat<float>().data() : nullptr;
}

// Rows are divided into at most this many blocks, whatever the number of threads, and what the blocks sum is added in
// order: the same bytes on one thread and on many.
constexpr int64_t kBlocks = 16;

inline int64_t Blocks(int64_t rows) { return std::min(rows, kBlocks); }

// f(task) for each task, in parallel where there is enough to do. `cost` is a task's, in multiplications or so.
template <typename F>
void ForEach(tensorflow::OpKernelContext* context, int64_t tasks, int64_t cost, F f) {
  const auto run = [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; task++) f(task);
  };
  if (tasks < 2 || tasks * cost < 16384) return run(0, tasks);
  const auto& threads = *context->device()->tensorflow_cpu_worker_threads();
  if (threads.num_threads == 1) return run(0, tasks);
  if (RunOnSpinningThreads(threads.num_threads, tasks, [&](int64_t task) { f(task); })) return;
  using Scheduling = tsl::thread::ThreadPool::SchedulingParams;
  threads.workers->ParallelFor(
      tasks, Scheduling(tsl::thread::ThreadPool::SchedulingStrategy::kFixedBlockSize, std::nullopt, 1), run);
}

// f(block, begin, end) for each block of rows.
template <typename F>
void ForBlocks(tensorflow::OpKernelContext* context, int64_t rows, int64_t elements_per_row, F f) {
  const int64_t blocks = Blocks(rows);
  if (blocks == 0) return;
  ForEach(context, blocks, rows * elements_per_row / blocks,
          [&](int64_t block) { f(block, block * rows / blocks, (block + 1) * rows / blocks); });
}

// Sums over rows of `width` values: each block adds into a partial sum of its own. f(row, sum).
template <typename F>
void SumRows(tensorflow::OpKernelContext* context, int64_t rows, int64_t width, float* result, F f) {
  std::vector<float> partial(Blocks(rows) * width, 0.0f);
  ForBlocks(context, rows, width, [&](int64_t block, int64_t begin, int64_t end) {
    float* sum = &partial[block * width];
    for (int64_t row = begin; row < end; row++) f(row, sum);
  });
  Vector total(result, width);
  total.setZero();
  for (int64_t block = 0; block < Blocks(rows); block++) total += ConstVector(&partial[block * width], width);
}

// Outputs shaped like the given inputs.
template <int... inputs>
absl::Status SameShapeAs(tensorflow::shape_inference::InferenceContext* c) {
  int output = 0;
  (c->set_output(output++, c->input(inputs)), ...);
  return absl::OkStatus();
}

}  // namespace lab

#define LAB_REGISTER_KERNEL(name, kernel) REGISTER_KERNEL_BUILDER(Name(name).Device(tensorflow::DEVICE_CPU), kernel)
