// x [m, k] times constant weights [k, n], with bias, GELU and residual in one pass, for inference. The networks here have
// tall products of few columns, where oneDNN reaches half of the processor: a tile of sums stays in registers, and the
// weights are packed into panels of a tile's width once, when the kernel first runs.
#include <mutex>

#include "kernels.h"

namespace lab {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::TensorShape;

// A tile takes most registers: 8 × 3 of the 32 that AVX-512 and NEON have, 4 × 3 of AVX's 16.
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16, kTileRows = 8;
#elif defined(__AVX__)
constexpr int64_t kLanes = 8, kTileRows = 4;
#else
constexpr int64_t kLanes = 4, kTileRows = 8;
#endif
constexpr int64_t kTileVectors = 3, kTileColumns = kLanes * kTileVectors;
constexpr int64_t kChunk = 128;  // rows that stay in the second-level cache while the panels pass by
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float)), aligned(4)));

// R rows of y [·, stride] = bias + x [R, depth] · panel [depth, V · kLanes], and the residual where there is one.
template <int R, int V>
void Tile(const float* x, int64_t depth, const float* panel, const float* bias, const float* residual, float* y, int64_t stride) {
  Lanes acc[R][V];
  for (int v = 0; v < V; v++) {
    for (int r = 0; r < R; r++) acc[r][v] = *reinterpret_cast<const Lanes*>(bias + v * kLanes);
  }
  for (int64_t p = 0; p < depth; p++, panel += V * kLanes) {
    Lanes weights[V];
    for (int v = 0; v < V; v++) weights[v] = *reinterpret_cast<const Lanes*>(panel + v * kLanes);
    for (int r = 0; r < R; r++) {
      for (int v = 0; v < V; v++) acc[r][v] += x[r * depth + p] * weights[v];
    }
  }
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < V; v++) {
      const int64_t at = r * stride + v * kLanes;
      if (residual) acc[r][v] += *reinterpret_cast<const Lanes*>(residual + at);
      *reinterpret_cast<Lanes*>(y + at) = acc[r][v];
    }
  }
}

template <int V>
void Tiles(int64_t rows, const float* x, int64_t depth, const float* panel, const float* bias, const float* residual, float* y, int64_t stride) {
  const auto tiles = [&](auto tile, int64_t height, int64_t row) {
    for (; row + height <= rows; row += height) tile(x + row * depth, depth, panel, bias, residual ? residual + row * stride : nullptr, y + row * stride, stride);
    return row;
  };
  tiles(Tile<1, V>, 1, tiles(Tile<2, V>, 2, tiles(Tile<kTileRows, V>, kTileRows, 0)));
}

struct Product : OpKernel {
  bool gelu;
  explicit Product(OpKernelConstruction* construction) : OpKernel(construction) { OP_REQUIRES_OK(construction, construction->GetAttr("gelu", &gelu)); }

  void Compute(OpKernelContext* context) override {
    const auto& weight = context->input(1);
    const int64_t m = context->input(0).dim_size(0), k = weight.dim_size(0), n = weight.dim_size(1);
    const float *x = Data(context, 0), *residual = context->num_inputs() > 3 ? Data(context, 3) : nullptr;
    float* y = Output(context, 0, TensorShape({m, n}));
    const int64_t panels = (n + kTileColumns - 1) / kTileColumns, chunks = (m + kChunk - 1) / kChunk;
    std::call_once(once, [&] { Pack(Data(context, 1), Data(context, 2), k, n, panels); });
    // Few rows leave the columns to be divided, so that there is work for all threads.
    const int64_t groups = std::min(panels, std::max<int64_t>(1, 8 / chunks));
    ForEach(context, chunks * groups, m * k * n / (chunks * groups), [&](int64_t task) {
      const int64_t chunk = task / groups, group = task % groups;
      const int64_t begin = chunk * m / chunks, rows = (chunk + 1) * m / chunks - begin;
      float sums[kChunk * kTileColumns];
      for (int64_t panel = group * panels / groups; panel < (group + 1) * panels / groups; panel++) {
        const int64_t first = panel * kTileColumns, columns = std::min(kTileColumns, n - first);
        const float *packed = &weights[panel * k * kTileColumns], *bias = &biases[first];
        float* out = y + begin * n + first;
        const float* add = residual ? residual + begin * n + first : nullptr;
        const auto tiles = columns > 2 * kLanes ? Tiles<3> : columns > kLanes ? Tiles<2> : Tiles<1>;
        // Whole vectors go to y straight away; GELU, and columns that are no whole vectors, take a detour.
        if (!gelu && columns % kLanes == 0) {
          tiles(rows, x + begin * k, k, packed, bias, add, out, n);
          continue;
        }
        tiles(rows, x + begin * k, k, packed, bias, nullptr, sums, kTileColumns);
        for (int64_t r = 0; r < rows; r++) {
          Vector sum(sums + r * kTileColumns, columns);
          if (gelu) sum = sum * (0.5f + 0.5f * (sum * kSqrtHalf).erf());
          if (add) sum += ConstVector(add + r * n, columns);
          Vector(out + r * n, columns) = sum;
        }
      }
    });
  }

 private:
  std::once_flag once;
  std::vector<float> weights, biases;

  // Panels of at most kTileColumns columns, one after another, each row by row in whole vectors.
  void Pack(const float* w, const float* bias, int64_t k, int64_t n, int64_t panels) {
    biases.assign(panels * kTileColumns, 0.0f);
    std::copy_n(bias, n, biases.begin());
    weights.assign(panels * k * kTileColumns, 0.0f);
    for (int64_t panel = 0; panel < panels; panel++) {
      const int64_t first = panel * kTileColumns, columns = std::min(kTileColumns, n - first), width = (columns + kLanes - 1) / kLanes * kLanes;
      for (int64_t p = 0; p < k; p++) std::copy_n(w + p * n + first, columns, &weights[panel * k * kTileColumns + p * width]);
    }
  }
};

absl::Status ProductShape(tensorflow::shape_inference::InferenceContext* c) {
  c->set_output(0, c->MakeShape({c->Dim(c->input(0), 0), c->Dim(c->input(1), 1)}));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("LabProduct").Input("x: float").Input("weight: float").Input("bias: float").Input("residual: residuals * float").Attr("residuals: int >= 0").Attr("gelu: bool").Output("y: float").SetShapeFn(ProductShape);

LAB_REGISTER_KERNEL("LabProduct", Product);

}  // namespace lab
