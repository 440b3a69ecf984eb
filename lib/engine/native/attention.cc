// softmax(q kᵀ · scale) v for every head, straight from qkv [b, n, 3 · heads · d] to [b, n, heads · d]: no transposes,
// and only a few rows of the n × n matrix at a time. Its gradient computes those rows again, which is cheaper than
// keeping them.
#include "panels.h"

namespace lab {
namespace {

constexpr int64_t kRows = 64;  // of the attention matrix at a time: 64 × 3136 floats stay in the second-level cache

// y [rows, columns], `y_stride` apart, = left [rows, depth] · panels; panels beyond `columns` only where y has room.
// finish(row, acc) before they are stored.
template <typename F>
void Multiply(const float* left, int64_t left_stride, int64_t depth, int64_t rows, const float* panels, int64_t columns,
              float* y, int64_t y_stride, F finish) {
  for (int64_t first = 0; first < columns; first += kPanel) {
    const int64_t count = std::min(kPanel, columns - first);
    ForTiles(rows, count, [&](auto R, auto V, int64_t row) {
      Lanes acc[R][V];
      Start(static_cast<const float*>(nullptr), acc);
      MultiplyAdd<Left::kRows>(left + row * left_stride, left_stride, depth, panels + first * depth, acc);
      finish(row, acc);
      StoreTile(acc, y + row * y_stride + first, y_stride, count);
    });
  }
}

// Each row of a tile times its factor.
template <int R, int V>
[[gnu::always_inline]] inline void ScaleRows(const float* factors, Lanes (&acc)[R][V]) {
  for (int r = 0; r < R; r++) {
    for (auto& values : acc[r]) values *= factors[r];
  }
}

// rows [rows, columns], `stride` apart, in panels.
void PackRows(const float* rows, int64_t stride, int64_t count, int64_t columns, float* panels) {
  for (int64_t first = 0; first < columns; first += kPanel)
    PackPanel(rows + first, stride, count, std::min(kPanel, columns - first), panels + first * count);
}

// Their transpose [columns, rows] in panels.
void PackRowsTransposed(const float* rows, int64_t stride, int64_t count, int64_t columns, float* panels) {
  for (int64_t first = 0; first < count; first += kPanel)
    PackPanelTransposed(rows + first * stride, stride, columns, std::min(kPanel, count - first),
                        panels + first * columns);
}

struct AttentionKernel : Kernel {
  int64_t heads;
  float scale;
  explicit AttentionKernel(const Attrs& attrs) : heads(attrs.at("heads")), scale(attrs.at("scale")) {}

  // Rows of e^(q kᵀ · scale − the row's maximum), and what to multiply them by for a softmax.
  void Weights(const float* q, int64_t stride, int64_t dim, int64_t rows, const float* k_transposed, int64_t tokens,
               float* weights, float* factors) const {
    Multiply(q, stride, dim, rows, k_transposed, tokens, weights, tokens, [&](int64_t, auto& acc) {
      for (auto& row : acc) {
        for (auto& values : row) values *= scale;
      }
    });
    for (int64_t row = 0; row < rows; row++) {
      float* logits = weights + row * tokens;
      const float shift = Largest(logits, tokens);
      RowSum sum;
      ForSummed(tokens, [&](auto part, auto i) {
        const Lanes x = part.From(logits) - shift, power = part.Of(Power(x));
        part.To(logits, power);
        sum.parts[i] += power;
      });
      factors[row] = 1.0f / sum.Total();
    }
  }
};

struct Attention : AttentionKernel {
  using AttentionKernel::AttentionKernel;
  void Run(Call& call) override {
    const int64_t images = call['b'], tokens = call['n'], channels = call['c'];
    if (channels == 0) return;
    const int64_t dim = channels / heads, chunks = (tokens + kRows - 1) / kRows, stride = 3 * channels;
    const float* qkv = call.In(0);
    float* y = call.Out(0);
    ForEach(call, images * heads * chunks, 2 * kRows * tokens * dim, [&](int64_t task) {
      const int64_t first = task % chunks * kRows, rows = std::min(kRows, tokens - first);
      const int64_t head = task / chunks % heads, n = task / chunks / heads;
      const float* at = qkv + n * tokens * stride + head * dim;
      const int64_t k_size = PackedSize(dim, tokens), v_size = PackedSize(tokens, dim);
      float *k = Scratch(k_size + v_size + rows * tokens + kRows), *v = k + k_size, *weights = v + v_size,
            *factors = weights + rows * tokens;
      PackRowsTransposed(at + channels, stride, tokens, dim, k);
      PackRows(at + 2 * channels, stride, tokens, dim, v);
      Weights(at + first * stride, stride, dim, rows, k, tokens, weights, factors);
      Multiply(weights, tokens, tokens, rows, v, dim, y + (n * tokens + first) * channels + head * dim, channels,
               [&](int64_t row, auto& acc) { ScaleRows(factors + row, acc); });
    });
  }
};

// With P the attention's rows and dP = dy vᵀ: dv = Pᵀ dy, dS = P ∘ (dP − Σ P ∘ dP), dq = dS k · scale, dk = dSᵀ q ·
// scale.
struct AttentionGrad : AttentionKernel {
  using AttentionKernel::AttentionKernel;
  void Run(Call& call) override {
    const int64_t images = call['b'], tokens = call['n'], channels = call['c'];
    if (channels == 0) return;
    const int64_t dim = channels / heads, stride = 3 * channels;
    const float *gradient = call.In(0), *qkv = call.In(1);
    float* dqkv = call.Out(0);
    const int64_t across = PackedSize(dim, tokens), along = PackedSize(tokens, dim), few = PackedSize(kRows, dim);
    ForEach(call, images * heads, 5 * tokens * tokens * dim, [&](int64_t task) {
      const int64_t head = task % heads, n = task / heads;
      const int64_t offset = n * tokens * stride + head * dim;
      const float *q = qkv + offset, *k = q + channels, *v = k + channels;
      float* memory = Scratch(2 * across + 3 * along + few + 2 * kRows * tokens + kRows);
      const auto take = [&](int64_t size) { return std::exchange(memory, memory + size); };
      float *k_transposed = take(across), *v_transposed = take(across), *k_rows = take(along), *dk = take(along),
            *dv = take(along), *panels = take(few), *weights = take(kRows * tokens), *slopes = take(kRows * tokens),
            *factors = take(kRows);
      PackRowsTransposed(k, stride, tokens, dim, k_transposed);
      PackRowsTransposed(v, stride, tokens, dim, v_transposed);
      PackRows(k, stride, tokens, dim, k_rows);
      for (int64_t first = 0; first < tokens; first += kRows) {
        const int64_t rows = std::min(kRows, tokens - first);
        const float* dy = gradient + (n * tokens + first) * channels + head * dim;
        Weights(q + first * stride, stride, dim, rows, k_transposed, tokens, weights, factors);
        Multiply(dy, channels, dim, rows, v_transposed, tokens, slopes, tokens, [](auto...) {});
        for (int64_t row = 0; row < rows; row++) {
          float *p = weights + row * tokens, *slope = slopes + row * tokens;
          RowSum sum;
          ForSummed(tokens, [&](auto part, auto i) {
            const Lanes weight = part.From(p) * factors[row];
            part.To(p, weight);
            sum.parts[i] = Fma(weight, part.From(slope), sum.parts[i]);
          });
          const float mean = sum.Total();
          ForVectors(tokens, [&](auto part) { part.To(slope, part.From(p) * (part.From(slope) - mean) * scale); });
        }
        AddRowsOuter(weights, tokens, rows, dy, channels, dim, first > 0, panels, dv);
        AddRowsOuter(slopes, tokens, rows, q + first * stride, stride, dim, first > 0, panels, dk);
        Multiply(slopes, tokens, tokens, rows, k_rows, dim, dqkv + offset + first * stride, stride, [](auto...) {});
      }
      Unpack(dk, tokens, dim, dqkv + offset + channels, stride);
      Unpack(dv, tokens, dim, dqkv + offset + 2 * channels, stride);
    });
  }

 private:
  // sums [tokens, dim] in panels (+)= leftᵀ · right: left [rows, tokens], right [rows, dim], `stride` apart.
  static void AddRowsOuter(const float* left, int64_t tokens, int64_t rows, const float* right, int64_t stride,
                           int64_t dim, bool add, float* panel, float* sums) {
    for (int64_t first = 0; first < dim; first += kPanel) {
      const int64_t columns = std::min(kPanel, dim - first);
      PackPanel(right + first, stride, rows, columns, panel);
      AddOuter(left, tokens, tokens, rows, panel, columns, add, sums + first * tokens);
    }
  }

  // panels [rows, columns] by rows, `stride` apart.
  static void Unpack(const float* panels, int64_t rows, int64_t columns, float* to, int64_t stride) {
    for (int64_t first = 0; first < columns; first += kPanel) {
      for (int64_t row = 0; row < rows; row++)
        std::copy_n(panels + first * rows + row * kPanel, std::min(kPanel, columns - first), to + row * stride + first);
    }
  }
};

// A third of qkv's channels each for q, k and v, which divide by the heads.
void AttentionSizes(Sizes& sizes, const Attrs& attrs) {
  const auto heads = static_cast<int64_t>(attrs.at("heads"));
  if (heads < 1) throw Refused("heads is " + std::to_string(heads) + ", less than 1");
  if (sizes['q'] == kUnknown) return;
  if (sizes['q'] % (3 * heads))
    throw Refused(std::to_string(sizes['q']) + " channels do not divide into q, k and v of " + std::to_string(heads) +
                  " heads");
  sizes.Set('c', sizes['q'] / 3);
}

const Declared attention{"LabAttention", AttentionSizes, Make<Attention>};
const Declared attention_grad{"LabAttentionGrad", AttentionSizes, Make<AttentionGrad>};

}  // namespace
}  // namespace lab
