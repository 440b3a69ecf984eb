// Register-tiled GEMM for tall-skinny shapes, where oneDNN reaches about 50 % of the
// processor.
//
// A right-hand side, and what lies between two GEMMs, is kept in panels: the matrix [rows, n] as ⌈n / kPanel⌉ blocks
// [rows, kPanel], the last one filled up with zeros, so that inner loops see whole vectors, one after another.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "lanes.h"

namespace lab {

// A tile takes most registers: 8 × 3 of the 32 that AVX-512 and NEON have, 4 × 3 of AVX's 16.
#if defined(__AVX__) && !defined(__AVX512F__)
constexpr int kTileRows = 4;
#else
constexpr int kTileRows = 8;
#endif
constexpr int kTileVectors = 3;
constexpr int64_t kPanel = kTileVectors * kLanes;

inline int64_t Panels(int64_t columns) { return (columns + kPanel - 1) / kPanel; }

// Floats that begin where a cache line does.
struct AlignedDelete {
  void operator()(float* floats) const { ::operator delete[](floats, std::align_val_t(64)); }
};
using Aligned = std::unique_ptr<float[], AlignedDelete>;
inline Aligned AlignedFloats(int64_t size) {
  return Aligned(static_cast<float*>(::operator new[](size * sizeof(float), std::align_val_t(64))));
}

// Memory of a thread's own, kept from task to task: pages that the system hands out anew cost more than what is done
// with them.
inline float* Scratch(int64_t size) {
  thread_local Aligned floats;
  thread_local int64_t capacity = 0;
  if (size > capacity) {
    capacity = 0;  // should there be no memory
    floats = AlignedFloats(size);
    capacity = size;
  }
  return floats.get();
}

// What a kernel reads next, brought into the second-level cache line by line while it computes: the processor itself
// does not look beyond a page of memory. A sixth of the time of the first stage's FFNs.
class Ahead {
 public:
  // Row `row` on of a matrix of `width` columns, `count` rows, of which there are none from `end` on.
  void Add(const float* matrix, int64_t width, int64_t row, int64_t count, int64_t end) {
    ranges_[ranges_used_++] = {reinterpret_cast<const char*>(matrix + row * width),
                               reinterpret_cast<const char*>(matrix + std::min(end, row + count) * width)};
  }

  void Fetch(int64_t lines = 1) {
    for (; range_ < ranges_used_; range_++) {
      auto& [at, end] = ranges_[range_];
      for (; at < end; at += kLine) {
        if (lines-- == 0) return;
        __builtin_prefetch(at, 0, 2);
      }
    }
  }

 private:
  static constexpr int64_t kLine = 64;
  std::pair<const char*, const char*> ranges_[3];
  int range_ = 0, ranges_used_ = 0;
};

// `columns` of `rows` rows, which lie `stride` apart, to one panel.
inline void PackPanel(const float* from, int64_t stride, int64_t rows, int64_t columns, float* panel) {
  const int64_t whole = columns / kLanes * kLanes;
  for (int64_t row = 0; row < rows; row++, from += stride, panel += kPanel) {
    int64_t column = 0;
    for (; column < whole; column += kLanes) Store(panel + column, Load(from + column));
    if (column < columns) Store(panel + column, LoadPart(from + column, columns - column)), column += kLanes;
    for (; column < kPanel; column += kLanes) Store(panel + column, Lanes{});
  }
}

// The same of the transposed matrix: `columns` rows of `rows` values, which lie `stride` apart, to one panel.
inline void PackPanelTransposed(const float* from, int64_t stride, int64_t rows, int64_t columns, float* panel) {
  const auto one = [&](int64_t row, int64_t column) {
    panel[row * kPanel + column] = column < columns ? from[column * stride + row] : 0.0f;
  };
  for (int64_t row = 0; row < rows; row += 4) {
    const int64_t count = std::min<int64_t>(4, rows - row);
    for (int64_t column = 0; column < kPanel; column += 4) {
      if (count == 4 && column + 4 <= columns) {
        TransposeFour(from + column * stride + row, stride, panel + row * kPanel + column, kPanel);
        continue;
      }
      for (int64_t i = 0; i < count; i++) {
        for (int64_t j = column; j < column + 4; j++) one(row + i, j);
      }
    }
  }
}

// sum [columns] += the rows of x, which lie `stride` apart.
inline void AddRows(const float* x, int64_t stride, int64_t rows, int64_t columns, float* sum) {
  ForVectors(columns, [&](auto part) {
    Lanes total = part.From(sum);
    for (int64_t row = 0; row < rows; row++) total += part.From(x + row * stride);
    part.To(sum, total);
  });
}

// How the left-hand side lies in memory: element (row, p) at row · stride + p, or, transposed, at row + p · stride.
enum class Left { kRows, kColumns };

// acc [R, V vectors] += a [R, depth] · right [depth, V vectors], fetching a line ahead for each step in depth. The
// right-hand side is a panel, or has rows `right_stride` apart, the last vector of which has `last` lanes.
template <Left left, int R, int V>
[[gnu::always_inline]] inline void MultiplyAdd(const float* a, int64_t stride, int64_t depth, const float* right,
                                               Lanes (&acc)[R][V], Ahead* ahead = nullptr,
                                               int64_t right_stride = kPanel, int64_t last = kLanes) {
  // In registers: where the caller hands out the address of `acc`, a load might read it, so each step would store all.
  Lanes sums[R][V];
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < V; v++) sums[r][v] = acc[r][v];
  }
  for (int64_t p = 0; p < depth; p++, right += right_stride) {
    Lanes row[V];
    for (int v = 0; v < V - 1; v++) row[v] = Load(right + v * kLanes);
    const float* end = right + (V - 1) * kLanes;
    row[V - 1] = last == kLanes ? Load(end) : LoadPart(end, last);
    for (int r = 0; r < R; r++) {
      const float value = left == Left::kRows ? a[r * stride + p] : a[r + p * stride];
      for (int v = 0; v < V; v++) sums[r][v] = Fma(value, row[v], sums[r][v]);
    }
    if (ahead) ahead->Fetch();
  }
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < V; v++) acc[r][v] = sums[r][v];
  }
}

// acc = the same row of values everywhere.
template <int R, int V>
[[gnu::always_inline]] inline void Start(const float* row, Lanes (&acc)[R][V]) {
  for (int v = 0; v < V; v++) {
    const Lanes start = row ? Load(row + v * kLanes) : Lanes{};
    for (int r = 0; r < R; r++) acc[r][v] = start;
  }
}

// f(R, V, row) for tiles that cover `rows` rows, of as many vectors as `columns` need: R and V are compile-time
// constants.
template <typename F>
[[gnu::always_inline]] inline void ForTiles(int64_t rows, int64_t columns, F f) {
  const auto cover = [&](auto vectors) {
    int64_t row = 0;
    for (; row + kTileRows <= rows; row += kTileRows) f(std::integral_constant<int, kTileRows>(), vectors, row);
    for (; row + 4 <= rows; row += 4) f(std::integral_constant<int, 4>(), vectors, row);
    for (; row < rows; row++) f(std::integral_constant<int, 1>(), vectors, row);
  };
  if (columns > 2 * kLanes) return cover(std::integral_constant<int, 3>());
  if (columns > kLanes) return cover(std::integral_constant<int, 2>());
  cover(std::integral_constant<int, 1>());
}

// y [R, columns] = acc; the last vector may be wider than what is left of the row.
template <int R, int V>
[[gnu::always_inline]] inline void StoreTile(const Lanes (&acc)[R][V], float* y, int64_t stride, int64_t columns) {
  const int64_t last = columns - (V - 1) * kLanes;
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < V - 1; v++) Store(y + r * stride + v * kLanes, acc[r][v]);
    float* end = y + r * stride + (V - 1) * kLanes;
    last >= kLanes ? Store(end, acc[r][V - 1]) : StorePart(end, last, acc[r][V - 1]);
  }
}

// panel [rows, kPanel] (+)= leftᵀ · right: left [depth, rows] by rows, `stride` apart; right [depth, kPanel], of which
// `columns` count.
inline void AddOuter(const float* left, int64_t stride, int64_t rows, int64_t depth, const float* right,
                     int64_t columns, bool add, float* panel) {
  ForTiles(rows, columns, [&](auto R, auto V, int64_t row) {
    Lanes acc[R][V];
    Start(static_cast<const float*>(nullptr), acc);
    float* to = panel + row * kPanel;
    MultiplyAdd<Left::kColumns>(left + row, stride, depth, right, acc);
    for (int r = 0; r < R; r++) {
      for (int v = 0; v < V; v++) {
        float* at = to + r * kPanel + v * kLanes;
        Store(at, add ? Load(at) + acc[r][v] : acc[r][v]);
      }
    }
  });
}

// f(lanes of acc, those of values [R, columns]) for all of a tile.
template <int R, int V, typename F>
[[gnu::always_inline]] inline void WithTile(const float* values, int64_t stride, int64_t columns, Lanes (&acc)[R][V],
                                            F f) {
  const int64_t last = columns - (V - 1) * kLanes;
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < V - 1; v++) f(acc[r][v], Load(values + r * stride + v * kLanes));
    const float* end = values + r * stride + (V - 1) * kLanes;
    f(acc[r][V - 1], last >= kLanes ? Load(end) : LoadPart(end, last));
  }
}

// acc += values [R, columns].
template <int R, int V>
[[gnu::always_inline]] inline void AddTile(const float* values, int64_t stride, int64_t columns, Lanes (&acc)[R][V]) {
  WithTile(values, stride, columns, acc, [](Lanes& sum, Lanes value) { sum += value; });
}

// acc = values [R, columns].
template <int R, int V>
[[gnu::always_inline]] inline void LoadTile(const float* values, int64_t stride, int64_t columns, Lanes (&acc)[R][V]) {
  WithTile(values, stride, columns, acc, [](Lanes& sum, Lanes value) { sum = value; });
}

// panels [rows, columns] = bias + x [rows, depth] · weight: x by rows, `stride` apart; weight, bias and result in
// panels.
inline void ToPanels(const float* x, int64_t stride, int64_t depth, int64_t rows, const float* weight,
                     const float* bias, int64_t columns, float* panels) {
  for (int64_t first = 0; first < columns; first += kPanel) {
    ForTiles(rows, columns - first, [&](auto R, auto V, int64_t row) {
      Lanes acc[R][V];
      Start(bias ? bias + first : nullptr, acc);
      MultiplyAdd<Left::kRows>(x + row * stride, stride, depth, weight + first * depth, acc);
      StoreTile(acc, panels + first * rows + row * kPanel, kPanel, kPanel);
    });
  }
}

// y [rows, columns] = bias + panels [rows, depth] · weight: y by rows, `stride` apart. finish(row, first column,
// columns, acc) before they are stored.
template <typename F>
void FromPanels(const float* panels, int64_t depth, int64_t rows, const float* weight, const float* bias,
                int64_t columns, float* y, int64_t stride, F finish) {
  for (int64_t first = 0; first < columns; first += kPanel) {
    const int64_t count = std::min(kPanel, columns - first);
    ForTiles(rows, count, [&](auto R, auto V, int64_t row) {
      Lanes acc[R][V];
      Start(bias ? bias + first : nullptr, acc);
      for (int64_t p = 0; p < depth; p += kPanel) {
        MultiplyAdd<Left::kRows>(panels + p * rows + row * kPanel, kPanel, std::min(kPanel, depth - p),
                                 weight + first * depth + p * kPanel, acc);
      }
      finish(row, first, count, acc);
      StoreTile(acc, y + row * stride + first, stride, count);
    });
  }
}

}  // namespace lab
