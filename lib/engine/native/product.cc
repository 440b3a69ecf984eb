// GEMMs of activations [m, k] and weights [k, n], m large: with bias, GELU, residual and drop path in one pass, and
// both gradients in one. The networks here have tall GEMMs of few columns, where oneDNN reaches half of the
// processor (see tile.h).
#include <mutex>

#include "kernels.h"
#include "panels.h"

namespace lab {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::TensorShape;

// Weights and bias in panels: packed when the kernel first runs if they are constant, else each time.
struct Packed {
  Temporary weight, bias;
};

constexpr int64_t kChunk = 128;  // rows that stay in the second-level cache while the panels pass by

struct Product : OpKernel {
  bool gelu, constant;
  explicit Product(OpKernelConstruction* construction) : OpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("gelu", &gelu));
    OP_REQUIRES_OK(construction, construction->GetAttr("constant_weight", &constant));
  }

  void Compute(OpKernelContext* context) override {
    const auto& weight = context->input(1);
    const int64_t m = context->input(0).dim_size(0), k = weight.dim_size(0), n = weight.dim_size(1);
    const float* x = Data(context, 0);
    const Join join(context, 3, m);
    float* y = Output(context, 0, TensorShape({m, n}));
    const auto pack = [&] {
      return std::make_unique<Packed>(
          Packed{Pack(context, Data(context, 1), k, n), Pack(context, Data(context, 2), 1, n)});
    };
    std::unique_ptr<Packed> packed;
    if (constant)
      std::call_once(once, [&] { kept = pack(); });
    else
      packed = pack();
    const auto& [weights, bias] = constant ? *kept : *packed;
    const int64_t panels = Panels(n), chunks = (m + kChunk - 1) / kChunk;
    // Few rows leave the columns to be divided, so that there is work for all threads.
    const int64_t groups = std::min(panels, std::max<int64_t>(1, 8 / std::max<int64_t>(1, chunks)));
    ForEach(context, chunks * groups, m * k * n / std::max<int64_t>(1, chunks * groups), [&](int64_t task) {
      const int64_t chunk = task / groups, group = task % groups;
      const int64_t begin = chunk * m / chunks, rows = (chunk + 1) * m / chunks - begin;
      Ahead ahead;
      ahead.Add(x, k, begin + rows, rows, m);
      for (int64_t panel = group * panels / groups; panel < (group + 1) * panels / groups; panel++) {
        const int64_t first = panel * kPanel, columns = std::min(kPanel, n - first);
        ForTiles(rows, columns, [&](auto R, auto V, int64_t row) {
          ahead.Fetch(R * k / kLanes + 1);
          Lanes acc[R][V];
          Start(&bias[first], acc);
          MultiplyAdd<Left::kRows>(x + (begin + row) * k, k, k, &weights[first * k], acc);
          if (gelu) {
            for (auto& sums : acc) {
              for (auto& sum : sums) sum *= Normal(sum).distribution;
            }
          }
          join.Finish(begin + row, first, columns, n, acc);
          StoreTile(acc, y + (begin + row) * n + first, n, columns);
        });
      }
    });
  }

 private:
  std::once_flag once;
  std::unique_ptr<Packed> kept;
};

absl::Status ProductShape(tensorflow::shape_inference::InferenceContext* c) {
  c->set_output(0, c->MakeShape({c->Dim(c->input(0), 0), c->Dim(c->input(1), 1)}));
  return absl::OkStatus();
}

// dx = dy · Wᵀ, dW = xᵀ · dy and the bias' gradient, chunk by chunk, so that dy comes from memory once.
struct ProductGrad : OpKernel {
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const auto& weight = context->input(2);
    const int64_t m = context->input(1).dim_size(0), k = weight.dim_size(0), n = weight.dim_size(1);
    const float *all_dy = Data(context, 0), *x = Data(context, 1);
    const RowScale scale(context, 3, m);
    float *dx = Output(context, 0, context->input(1).shape()), *dweight = Output(context, 1, weight.shape()),
          *dbias = Output(context, 2, TensorShape({n}));
    const Temporary transposed = PackTransposed(context, Data(context, 2), n, k);
    // In the GEMM of dW the side whose vectors are fuller lies in panels, and the other one is broadcast.
    const bool swapped = Panels(k) * n < Panels(n) * k;
    const int64_t width = swapped ? k : n, height = swapped ? n : k, panels = Panels(width), depths = Panels(k);
    const int64_t blocks = SumBlocks(m),
                  groups = std::max<int64_t>(1, std::min(std::min(panels, depths), kBlocks / blocks));
    const Temporary sums(context, blocks * panels * height * kPanel), biases(context, blocks * n);
    const int64_t chunk = k + n < 2 * kChunk ? kChunk : kChunk / 2;
    ForEach(context, blocks * groups, 2 * m * k * n / (blocks * groups), [&](int64_t task) {
      const int64_t block = task / groups, group = task % groups, begin = block * m / blocks,
                    end = (block + 1) * m / blocks;
      float *sum = &sums[block * panels * height * kPanel], *panel = Scratch(chunk * (kPanel + n)),
            *scaled = panel + chunk * kPanel;
      if (begin == end) std::fill_n(sum, panels * height * kPanel, 0.0f);
      if (group == 0) std::fill_n(&biases[block * n], n, 0.0f);
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
            MultiplyAdd<Left::kRows>(dy + r * n, n, n, &transposed[first * n], acc, &ahead);
            StoreTile(acc, dx + (row + r) * k + first, k, columns);
          });
        }
        for (int64_t first = group * panels / groups * kPanel; first < (group + 1) * panels / groups * kPanel;
             first += kPanel) {
          const int64_t columns = std::min(kPanel, width - first);
          PackPanel((swapped ? x + row * k : dy) + first, width, rows, columns, panel);
          AddOuter(swapped ? dy : x + row * k, height, height, rows, panel, columns, row > begin, sum + first * height);
        }
        if (group == 0) AddRows(dy, n, rows, n, &biases[block * n]);
      }
    });
    AddBlocks(context, sums.get(), blocks, height, width, swapped, dweight);
    Vector total(dbias, n);
    total.setZero();
    for (int64_t block = 0; block < blocks; block++) total += ConstVector(&biases[block * n], n);
  }
};

absl::Status ProductGradShape(tensorflow::shape_inference::InferenceContext* c) {
  c->set_output(0, c->input(1));
  c->set_output(1, c->input(2));
  c->set_output(2, c->Vector(c->Dim(c->input(2), 1)));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("LabProduct")
    .Input("x: float")
    .Input("weight: float")
    .Input("bias: float")
    .Input("join: joins * float")
    .Attr("joins: int >= 0")
    .Attr("gelu: bool")
    .Attr("constant_weight: bool")
    .Output("y: float")
    .SetShapeFn(ProductShape);
REGISTER_OP("LabProductGrad")
    .Input("dy: float")
    .Input("x: float")
    .Input("weight: float")
    .Input("scale: scales * float")
    .Attr("scales: int >= 0")
    .Output("dx: float")
    .Output("dweight: float")
    .Output("dbias: float")
    .SetShapeFn(ProductGradShape);

LAB_REGISTER_KERNEL("LabProduct", Product);
LAB_REGISTER_KERNEL("LabProductGrad", ProductGrad);

}  // namespace lab
