// y = gelu(x W₁ + b₁) W₂ + b₂, joined to a residual by drop path where there is one, and its gradient, a few rows at a
// time: the hidden values, four times as many as x has, stay in the cache. For the gradient they are kept before GELU,
// or not written to memory at all and computed again: `keep` says which.
#include "panels.h"

namespace lab {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::TensorShape;

// Rows are taken in chunks, whose hidden values and their gradients stay in the second-level cache, and lie in panels.
struct Chunks {
  int64_t rows, panels, size, count;
  Chunks(int64_t rows, int64_t hidden)
      : rows(rows),
        panels(Panels(hidden)),
        size(std::clamp<int64_t>(49152 / (panels * kPanel) / 8 * 8, 16, 128)),
        count((rows + size - 1) / size) {}
  int64_t Rows(int64_t chunk) const { return std::min(size, rows - chunk * size); }
  int64_t Begin(int64_t chunk) const { return chunk * size; }
  // Floats before the chunk's.
  int64_t Offset(int64_t chunk) const { return chunk * size * panels * kPanel; }
};

struct FeedForward : OpKernel {
  bool keep;
  explicit FeedForward(tensorflow::OpKernelConstruction* construction) : OpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("keep", &keep));
  }

  void Compute(OpKernelContext* context) override {
    const int64_t m = context->input(0).dim_size(0), k = context->input(1).dim_size(0),
                  hidden = context->input(1).dim_size(1), n = context->input(3).dim_size(1);
    const Chunks chunks(m, hidden);
    const float* x = Data(context, 0);
    const Join join(context, 5, m);
    float *y = Output(context, 0, TensorShape({m, n})),
          *kept = Output(context, 1, TensorShape({keep ? m : 0, chunks.panels * kPanel}));
    const Temporary w1 = Pack(context, Data(context, 1), k, hidden), b1 = Pack(context, Data(context, 2), 1, hidden);
    const Temporary w2 = Pack(context, Data(context, 3), hidden, n), b2 = Pack(context, Data(context, 4), 1, n);
    ForEach(context, chunks.count, chunks.size * hidden * (k + n), [&](int64_t chunk) {
      const int64_t begin = chunks.Begin(chunk), rows = chunks.Rows(chunk), size = chunks.panels * rows * kPanel;
      float *activations = Scratch(size), *values = keep ? kept + chunks.Offset(chunk) : activations;
      ToPanels(x + begin * k, k, k, rows, w1.get(), b1.get(), hidden, values);
      Ahead ahead;
      ahead.Add(x, k, begin + rows, rows, m);
      for (int64_t i = 0; i < size; i += kLanes) {
        if (i % kPanel == 0) ahead.Fetch();
        const Lanes value = Load(values + i);
        Store(activations + i, value * Normal(value).distribution);
      }
      FromPanels(activations, hidden, rows, w2.get(), b2.get(), n, y + begin * n, n,
                 [&](int64_t row, int64_t first, int64_t columns, auto& acc) {
                   join.Finish(begin + row, first, columns, n, acc);
                 });
    });
  }
};

struct FeedForwardGrad : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const int64_t m = context->input(1).dim_size(0), k = context->input(2).dim_size(0),
                  hidden = context->input(2).dim_size(1), n = context->input(4).dim_size(1);
    const Chunks chunks(m, hidden);
    const float *all_dy = Data(context, 0), *x = Data(context, 1),
                *kept = context->input(5).NumElements() ? Data(context, 5) : nullptr;
    const RowScale scale(context, 6, m);
    const Temporary w1 = Pack(context, Data(context, 2), k, hidden), b1 = Pack(context, Data(context, 3), 1, hidden);
    const Temporary w1_transposed = PackTransposed(context, Data(context, 2), hidden, k),
                    w2_transposed = PackTransposed(context, Data(context, 4), n, hidden);
    float* dx = Output(context, 0, context->input(1).shape());
    const int64_t panels = chunks.panels, blocks = std::min(chunks.count, SumBlocks(m));
    const int64_t size1 = panels * k * kPanel, size2 = panels * n * kPanel, biases = panels * kPanel + n;
    const Temporary sums1(context, blocks * size1), sums2(context, blocks * size2), bias_sums(context, blocks * biases);
    ForEach(context, blocks, 5 * m * hidden * (k + n) / (2 * std::max<int64_t>(1, blocks)), [&](int64_t block) {
      float *sum1 = &sums1[block * size1], *sum2 = &sums2[block * size2], *bias1 = &bias_sums[block * biases],
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
        if (!kept) ToPanels(x + row * k, k, k, rows, w1.get(), b1.get(), hidden, activations);
        ToPanels(dy, n, n, rows, w2_transposed.get(), nullptr, hidden, gradients);
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
        FromPanels(gradients, hidden, rows, w1_transposed.get(), nullptr, k, dx + row * k, k, [](auto...) {});
        AddRows(dy, n, rows, n, bias2);
      }
    });
    AddBlocks(context, sums1.get(), blocks, k, hidden, false, Output(context, 1, context->input(2).shape()));
    AddBlocks(context, sums2.get(), blocks, n, hidden, true, Output(context, 3, context->input(4).shape()));
    Vector dbias1(Output(context, 2, context->input(3).shape()), hidden),
        dbias2(Output(context, 4, TensorShape({n})), n);
    dbias1.setZero();
    dbias2.setZero();
    for (int64_t block = 0; block < blocks; block++) {
      dbias1 += ConstVector(&bias_sums[block * biases], hidden);
      dbias2 += ConstVector(&bias_sums[block * biases + panels * kPanel], n);
    }
  }

 private:
  // One panel of what goes into GELU to what comes out, and of the latter's gradient to the former's, which is added up
  // too.
  static void Gelu(int64_t rows, const float* value, float* activation, float* gradient, float* bias_sum,
                   Ahead* ahead) {
    Lanes sum[kTileVectors] = {};
    for (int64_t row = 0; row < rows; row++) {
      ahead->Fetch(5);
      for (int v = 0; v < kTileVectors; v++, value += kLanes, activation += kLanes, gradient += kLanes) {
        const Lanes in = Load(value);
        const Normal normal(in);
        const Lanes slope = Load(gradient) * (normal.distribution + in * normal.density);
        Store(activation, in * normal.distribution);
        Store(gradient, slope);
        sum[v] += slope;
      }
    }
    for (int v = 0; v < kTileVectors; v++) Store(bias_sum + v * kLanes, Load(bias_sum + v * kLanes) + sum[v]);
  }
};

absl::Status FeedForwardShape(tensorflow::shape_inference::InferenceContext* c) {
  c->set_output(0, c->MakeShape({c->Dim(c->input(0), 0), c->Dim(c->input(3), 1)}));
  bool keep;
  TF_RETURN_IF_ERROR(c->GetAttr("keep", &keep));
  const auto hidden = c->Dim(c->input(1), 1);
  c->set_output(
      1, c->MakeShape({keep ? c->Dim(c->input(0), 0) : c->MakeDim(0),
                       c->ValueKnown(hidden) ? c->MakeDim(Panels(c->Value(hidden)) * kPanel) : c->UnknownDim()}));
  return absl::OkStatus();
}

absl::Status FeedForwardGradShape(tensorflow::shape_inference::InferenceContext* c) {
  for (int i = 0; i < 4; i++) c->set_output(i, c->input(i + 1));
  c->set_output(4, c->Vector(c->Dim(c->input(4), 1)));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("LabFeedForward")
    .Input("x: float")
    .Input("weight1: float")
    .Input("bias1: float")
    .Input("weight2: float")
    .Input("bias2: float")
    .Input("join: joins * float")
    .Attr("joins: int >= 0")
    .Attr("keep: bool")
    .Output("y: float")
    .Output("hidden: float")
    .SetShapeFn(FeedForwardShape);
REGISTER_OP("LabFeedForwardGrad")
    .Input("dy: float")
    .Input("x: float")
    .Input("weight1: float")
    .Input("bias1: float")
    .Input("weight2: float")
    .Input("hidden: float")
    .Input("scale: scales * float")
    .Attr("scales: int >= 0")
    .Output("dx: float")
    .Output("dweight1: float")
    .Output("dbias1: float")
    .Output("dweight2: float")
    .Output("dbias2: float")
    .SetShapeFn(FeedForwardGradShape);

LAB_REGISTER_KERNEL("LabFeedForward", FeedForward);
LAB_REGISTER_KERNEL("LabFeedForwardGrad", FeedForwardGrad);

}  // namespace lab
