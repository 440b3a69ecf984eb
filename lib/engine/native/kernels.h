// What the fused kernels share: how an op is declared, checked and run. Nothing of TensorFlow stands here, so that the
// same kernels also run without it, under sanitizers and on other processors (test/native). lib/engine/nativeOps.ts is
// the table of all ops: inputs, attributes, outputs, and the composition of stock ops that each equals.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "lanes.h"

namespace lab {

constexpr int64_t kUnknown = -1;  // a size that is not known while a graph is built

// At most eight sizes, in place; of an unknown rank if that is negative.
struct Shape {
  int rank = 0;
  std::array<int64_t, 8> sizes;
  Shape() = default;
  Shape(std::initializer_list<int64_t> list) {
    for (int64_t size : list) Add(size);
  }
  void Add(int64_t size);
  const int64_t* begin() const { return sizes.data(); }
  const int64_t* end() const { return sizes.data() + std::max(0, rank); }
  std::string Text() const;  // [2, 3]
};

// Inputs or attributes that an op does not take.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Attributes by name, whatever their type: int, float and bool.
using Attrs = std::map<std::string, double>;

// What the letters of an op's declaration stand for.
class Sizes {
 public:
  Sizes() { known_.fill(kUnknown); }
  int64_t operator[](char letter) const { return known_[letter - 'A']; }
  // How many rows the sizes of * make.
  int64_t Rows() const;
  // Refuses a size that is known as another one.
  void Set(char letter, int64_t size);
  void Fit(const std::string& pattern, const Shape& shape);
  Shape Of(const std::string& pattern) const;

 private:
  std::array<int64_t, 'z' - 'A' + 1> known_;
  Shape rows_;
  bool rows_known_ = false;
};

// One run of a kernel: its inputs, which fit the op's declaration, and its outputs, which are allocated.
class Call {
 public:
  Call(const Sizes& sizes) : sizes_(sizes) {}
  virtual ~Call() = default;
  const Sizes& sizes() const { return sizes_; }
  int64_t operator[](char letter) const { return sizes_[letter]; }

  // Null where a list of inputs has no such one.
  const float* In(size_t input) const { return input < inputs.size() ? inputs[input] : nullptr; }
  float* Out(size_t output) const { return outputs[output]; }

  // Memory for the time of the call. Throws std::bad_alloc.
  virtual float* Allocate(int64_t floats) = 0;

  // f(task) for each task, on several threads. What a task throws is thrown here, when all have ended.
  void Parallel(int64_t tasks, const std::function<void(int64_t)>& f);

  std::vector<const float*> inputs;
  std::vector<float*> outputs;

 protected:
  virtual void RunTasks(int64_t tasks, const std::function<void(int64_t)>& f) = 0;

 private:
  const Sizes& sizes_;
};

// May be run by several threads at once.
struct Kernel {
  virtual ~Kernel() = default;
  virtual void Run(Call& call) = 0;
};

// An input or output as one declares it for an einsum: "weight: k n". A letter is a size, the same wherever it stands;
// a digit is itself; * is any number of leading sizes, the same wherever it stands. "join?: m n | s" is a list of at
// most two, counted by the attribute "joins".
struct Argument {
  std::string text, name;
  bool list;
  std::vector<std::string> patterns;
  Argument(const char* text);
};

// An op as the table has it.
struct Declaration {
  const char* name;
  std::vector<Argument> inputs;
  std::vector<const char*> attrs;
  std::vector<Argument> outputs;
};

// Throws std::logic_error for an op that the table (ops.inc) does not have.
const Declaration& DeclarationOf(const std::string& name);

// `derive` refuses what letters cannot say, and sets the letters that only outputs have; it runs with unknown sizes
// too. Checked when a graph is built and again before each computation.
struct Op : Declaration {
  void (*derive)(Sizes& sizes, const Attrs& attrs);
  std::unique_ptr<Kernel> (*make)(const Attrs& attrs);

  // The sizes that these shapes say. Throws Refused, with op, inputs and shapes.
  Sizes Check(const std::vector<Shape>& shapes, const Attrs& attrs) const;
};

// All ops that have a kernel.
std::vector<const Op*>& Ops();

// An op of the table, with its kernel.
struct Declared : Op {
  Declared(const char* name, decltype(Op::derive) derive, decltype(Op::make) make)
      : Op{DeclarationOf(name), derive, make} {
    Ops().push_back(this);
  }
};

template <typename K>
std::unique_ptr<Kernel> Make(const Attrs& attrs) {
  if constexpr (std::is_constructible_v<K, const Attrs&>)
    return std::make_unique<K>(attrs);
  else
    return std::make_unique<K>();
}

inline void NothingMore(Sizes&, const Attrs&) {}

// `scale`, one factor for each image, divides `rows` rows among the images.
inline void RowsByImages(Sizes& sizes, char rows, char scale) {
  if (sizes[rows] <= 0 || sizes[scale] == kUnknown) return;
  if (sizes[scale] == 0 || sizes[rows] % sizes[scale])
    throw Refused(std::to_string(sizes[rows]) + " rows do not divide by " + std::to_string(sizes[scale]) + " images");
}

// Rows are divided into at most this many blocks, whatever the number of threads, and what the blocks sum is added in
// order: the same bytes on one thread and on many.
constexpr int64_t kBlocks = 16;

inline int64_t Blocks(int64_t rows) { return std::min(rows, kBlocks); }

// Multiplications or so, below which handing tasks to other threads takes longer (some µs) than it saves.
constexpr int64_t kWorthThreads = 16384;

// f(task) for each task, in parallel where there is enough to do. `cost` is a task's, in multiplications or so.
template <typename F>
void ForEach(Call& call, int64_t tasks, int64_t cost, F f) {
  if (tasks >= 2 && tasks * cost >= kWorthThreads) return call.Parallel(tasks, f);
  for (int64_t task = 0; task < tasks; task++) f(task);
}

// f(block, begin, end) for each block of rows.
template <typename F>
void ForBlocks(Call& call, int64_t rows, int64_t elements_per_row, F f) {
  const int64_t blocks = Blocks(rows);
  if (blocks == 0) return;
  ForEach(call, blocks, rows * elements_per_row / blocks,
          [&](int64_t block) { f(block, block * rows / blocks, (block + 1) * rows / blocks); });
}

// to += from
inline void AddTo(float* to, const float* from, int64_t count) {
  ForVectors(count, [&](auto part) { part.To(to, part.From(to) + part.From(from)); });
}

// The blocks' sums, `width` values each, `stride` apart, added in order.
inline void AddSums(const float* sums, int64_t blocks, int64_t width, int64_t stride, float* total) {
  std::fill_n(total, width, 0.0f);
  for (int64_t block = 0; block < blocks; block++) AddTo(total, sums + block * stride, width);
}

// Sums over rows of `width` values: each block adds into a partial sum of its own. f(row, sum).
template <typename F>
void SumRows(Call& call, int64_t rows, int64_t width, float* result, F f) {
  float* partial = call.Allocate(Blocks(rows) * width);
  ForBlocks(call, rows, width, [&](int64_t block, int64_t begin, int64_t end) {
    float* sum = partial + block * width;
    std::fill_n(sum, width, 0.0f);
    for (int64_t row = begin; row < end; row++) f(row, sum);
  });
  AddSums(partial, Blocks(rows), width, width, result);
}

}  // namespace lab
