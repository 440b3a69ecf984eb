// softmax(q kᵀ · scale) v for every head, straight from qkv [b, n, 3 · heads · d] to [b, n, heads · d]: no transposes,
// and only a few rows of the n × n matrix at a time. Its gradient computes those rows again, which is cheaper than
// keeping them.
#include "kernels.h"

namespace lab {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::TensorShape;

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Strided = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;
using ConstStrided = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;

constexpr int64_t kRows = 64;  // of the attention matrix at a time: 64 × 3136 floats stay in the second-level cache

struct AttentionKernel : OpKernel {
  int heads;
  float scale;
  explicit AttentionKernel(OpKernelConstruction* construction) : OpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("heads", &heads));
    OP_REQUIRES_OK(construction, construction->GetAttr("scale", &scale));
  }

  struct Extent {
    int64_t batch, tokens, channels, dim;
  };
  Extent Of(const TensorShape& qkv) const {
    return {qkv.dim_size(0), qkv.dim_size(1), qkv.dim_size(2) / 3, qkv.dim_size(2) / 3 / heads};
  }

  // Rows of softmax(q kᵀ · scale).
  void Weights(const ConstStrided& q, const ConstStrided& k, Matrix* weights) const {
    weights->noalias() = (q * scale) * k.transpose();
    for (int64_t row = 0; row < weights->rows(); row++) {
      auto logits = weights->row(row).array();
      logits = (logits - logits.maxCoeff()).exp();
      logits *= 1.0f / logits.sum();
    }
  }
};

struct Attention : AttentionKernel {
  using AttentionKernel::AttentionKernel;
  void Compute(OpKernelContext* context) override {
    const Extent e = Of(context->input(0).shape());
    const float* qkv = Data(context, 0);
    float* y = Output(context, 0, TensorShape({e.batch, e.tokens, e.channels}));
    const int64_t chunks = (e.tokens + kRows - 1) / kRows, stride = 3 * e.channels;
    ForEach(context, e.batch * heads * chunks, 2 * kRows * e.tokens * e.dim, [&](int64_t task) {
      const int64_t first = task % chunks * kRows, rows = std::min(kRows, e.tokens - first);
      const int64_t head = task / chunks % heads, n = task / chunks / heads;
      const float* at = qkv + n * e.tokens * stride + head * e.dim;
      const ConstStrided q(at + first * stride, rows, e.dim, Eigen::OuterStride<>(stride));
      const ConstStrided k(at + e.channels, e.tokens, e.dim, Eigen::OuterStride<>(stride)),
          v(at + 2 * e.channels, e.tokens, e.dim, Eigen::OuterStride<>(stride));
      Matrix weights(rows, e.tokens);
      Weights(q, k, &weights);
      Strided(y + (n * e.tokens + first) * e.channels + head * e.dim, rows, e.dim, Eigen::OuterStride<>(e.channels))
          .noalias() = weights * v;
    });
  }
};

// With P the attention's rows and dP = dy vᵀ: dv = Pᵀ dy, dS = P ∘ (dP − Σ P ∘ dP), dq = dS k · scale, dk = dSᵀ q ·
// scale.
struct AttentionGrad : AttentionKernel {
  using AttentionKernel::AttentionKernel;
  void Compute(OpKernelContext* context) override {
    const Extent e = Of(context->input(1).shape());
    const float *gradient = Data(context, 0), *qkv = Data(context, 1);
    float* dqkv = Output(context, 0, context->input(1).shape());
    const int64_t stride = 3 * e.channels;
    ForEach(context, e.batch * heads, 5 * e.tokens * e.tokens * e.dim, [&](int64_t task) {
      const int64_t head = task % heads, n = task / heads;
      const int64_t offset = n * e.tokens * stride + head * e.dim;
      const Eigen::OuterStride<> step(stride);
      const ConstStrided k(qkv + offset + e.channels, e.tokens, e.dim, step),
          v(qkv + offset + 2 * e.channels, e.tokens, e.dim, step);
      Strided dk(dqkv + offset + e.channels, e.tokens, e.dim, step),
          dv(dqkv + offset + 2 * e.channels, e.tokens, e.dim, step);
      dk.setZero();
      dv.setZero();
      Matrix weights, dweights;
      for (int64_t first = 0; first < e.tokens; first += kRows) {
        const int64_t rows = std::min(kRows, e.tokens - first);
        const ConstStrided q(qkv + offset + first * stride, rows, e.dim, step);
        const ConstStrided dy(gradient + (n * e.tokens + first) * e.channels + head * e.dim, rows, e.dim,
                              Eigen::OuterStride<>(e.channels));
        weights.resize(rows, e.tokens);
        Weights(q, k, &weights);
        dv.noalias() += weights.transpose() * dy;
        dweights.noalias() = dy * v.transpose();
        const Eigen::VectorXf mean = weights.cwiseProduct(dweights).rowwise().sum();
        dweights = (weights.array() * (dweights.colwise() - mean).array() * scale).matrix();
        Strided(dqkv + offset + first * stride, rows, e.dim, step).noalias() = dweights * k;
        dk.noalias() += dweights.transpose() * q;
      }
    });
  }
};

absl::Status AttentionShape(tensorflow::shape_inference::InferenceContext* c) {
  tensorflow::shape_inference::DimensionHandle channels;
  TF_RETURN_IF_ERROR(c->Divide(c->Dim(c->input(0), 2), 3, true, &channels));
  c->set_output(0, c->MakeShape({c->Dim(c->input(0), 0), c->Dim(c->input(0), 1), channels}));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("LabAttention")
    .Input("qkv: float")
    .Attr("heads: int")
    .Attr("scale: float")
    .Output("y: float")
    .SetShapeFn(AttentionShape);
REGISTER_OP("LabAttentionGrad")
    .Input("dy: float")
    .Input("qkv: float")
    .Attr("heads: int")
    .Attr("scale: float")
    .Output("dqkv: float")
    .SetShapeFn(SameShapeAs<1>);

LAB_REGISTER_KERNEL("LabAttention", Attention);
LAB_REGISTER_KERNEL("LabAttentionGrad", AttentionGrad);

}  // namespace lab
