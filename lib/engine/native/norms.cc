// Layer norm over the last axis and batch norm over all but it, each with its gradient, in one pass over memory where
// stock ops take seven (layer norm) to a dozen (the gradients).
#include "kernels.h"
#include "lanes.h"

namespace lab {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

struct NormKernel : OpKernel {
  float eps;
  explicit NormKernel(OpKernelConstruction* construction) : OpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("eps", &eps));
  }
};

struct Extent {
  int64_t rows, width;
  explicit Extent(const Tensor& x) : width(x.dim_size(x.dims() - 1)) { rows = width ? x.NumElements() / width : 0; }
};

struct LayerNorm : NormKernel {
  using NormKernel::NormKernel;
  void Compute(OpKernelContext* context) override {
    const Tensor& input = context->input(0);
    const auto [rows, width] = Extent(input);
    const float* x = Data(context, 0);
    const float *weight = Data(context, 1), *bias = Data(context, 2);
    float *y = Output(context, 0, input.shape()), *means = Output(context, 1, TensorShape({rows})),
          *rstds = Output(context, 2, TensorShape({rows}));
    ForBlocks(context, rows, width, [&, width = width](int64_t, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const float* in = x + row * width;
        Lanes sum{}, squares{};
        ForVectors(width, [&](auto part) { sum += part.From(in); });
        const float mean = means[row] = Sum(sum) / width;
        ForVectors(width, [&](auto part) {
          const Lanes centred = part.From(in) - part.Of(mean);
          squares += centred * centred;
        });
        const float rstd = rstds[row] = 1.0f / std::sqrt(Sum(squares) / width + eps);
        ForVectors(width, [&](auto part) {
          part.To(y + row * width, (part.From(in) - mean) * (rstd * part.From(weight)) + part.From(bias));
        });
      }
    });
  }
};

// dx = rstd · (g − mean(g) − x̂ · mean(g · x̂)) with g = dy · weight and x̂ = (x − mean) · rstd, and what is joined to it.
struct LayerNormGrad : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const Tensor& input = context->input(1);
    const auto [rows, width] = Extent(input);
    const float *dy = Data(context, 0), *x = Data(context, 1), *weight = Data(context, 2), *mean = Data(context, 3),
                *rstd = Data(context, 4);
    const float* joined = context->num_inputs() > 5 ? Data(context, 5) : nullptr;
    float* dx = Output(context, 0, input.shape());
    float* dweight = Output(context, 1, TensorShape({width}));
    float* dbias = Output(context, 2, TensorShape({width}));
    std::vector<float> sums(2 * width);
    SumRows(context, rows, 2 * width, sums.data(), [&, width = width](int64_t row, float* sum) {
      const int64_t at = row * width;
      const auto normalized = [&](auto part) { return (part.From(x + at) - part.Of(mean[row])) * rstd[row]; };
      Lanes g{}, gx{};
      ForVectors(width, [&](auto part) {
        const Lanes in = normalized(part), gradient = part.From(dy + at), weighted = gradient * part.From(weight);
        part.To(sum, part.From(sum) + gradient * in);
        part.To(sum + width, part.From(sum + width) + gradient);
        g += weighted;
        gx += weighted * in;
      });
      const float mean_g = Sum(g) / width, mean_gx = Sum(gx) / width;
      ForVectors(width, [&](auto part) {
        Lanes out = rstd[row] * (part.From(dy + at) * part.From(weight) - mean_g - normalized(part) * mean_gx);
        if (joined) out += part.From(joined + at);
        part.To(dx + at, out);
      });
    });
    std::copy_n(sums.data(), width, dweight);
    std::copy_n(sums.data() + width, width, dbias);
  }
};

// Mean and biased variance per channel. Each block sums around its own first row, so that nothing cancels where the
// mean is large against the spread; blocks are merged by the formula of Chan, Golub and LeVeque (1979).
struct BatchMoments : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const auto [rows, width] = Extent(context->input(0));
    const float* x = Data(context, 0);
    Vector mean(Output(context, 0, TensorShape({width})), width),
        variance(Output(context, 1, TensorShape({width})), width);
    const int64_t blocks = Blocks(rows);
    Eigen::ArrayXXf means(width, blocks), squares(width, blocks);
    ForBlocks(context, rows, width, [&, width = width](int64_t block, int64_t begin, int64_t end) {
      Eigen::ArrayXf sum = Eigen::ArrayXf::Zero(width), square = Eigen::ArrayXf::Zero(width);
      const ConstVector origin(x + begin * width, width);
      for (int64_t row = begin; row < end; row++) {
        const ConstVector in(x + row * width, width);
        sum += in - origin;
        square += (in - origin).square();
      }
      const float n = static_cast<float>(end - begin);
      means.col(block) = origin + sum / n;
      squares.col(block) = square - sum.square() / n;
    });
    mean.setZero();
    variance.setZero();
    float count = 0;
    for (int64_t block = 0; block < blocks; block++) {
      const float n = static_cast<float>((block + 1) * rows / blocks - block * rows / blocks);
      const Eigen::ArrayXf delta = means.col(block) - mean;
      mean += delta * (n / (count + n));
      variance += squares.col(block) + delta.square() * (count * n / (count + n));
      count += n;
    }
    variance /= static_cast<float>(rows);
  }
};

struct BatchNorm : NormKernel {
  using NormKernel::NormKernel;
  void Compute(OpKernelContext* context) override {
    const Tensor& input = context->input(0);
    const auto [rows, width] = Extent(input);
    const ConstVector weight(Data(context, 1), width), bias(Data(context, 2), width), mean(Data(context, 3), width),
        variance(Data(context, 4), width);
    const Eigen::ArrayXf scale = weight / (variance + eps).sqrt();
    const float* x = Data(context, 0);
    float* y = Output(context, 0, input.shape());
    ForBlocks(context, rows, width, [&, width = width](int64_t, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        Vector(y + row * width, width) = (ConstVector(x + row * width, width) - mean) * scale + bias;
      }
    });
  }
};

// The gradient through the batch's own statistics: dx = weight · rstd · (dy − mean(dy) − x̂ · mean(dy · x̂)), and what is
// joined to it.
struct BatchNormGrad : NormKernel {
  using NormKernel::NormKernel;
  void Compute(OpKernelContext* context) override {
    const Tensor& input = context->input(1);
    const auto [rows, width] = Extent(input);
    const float *dy = Data(context, 0), *x = Data(context, 1);
    const ConstVector weight(Data(context, 2), width), mean(Data(context, 3), width), variance(Data(context, 4), width);
    const float* joined = context->num_inputs() > 5 ? Data(context, 5) : nullptr;
    float* dx = Output(context, 0, input.shape());
    Vector dweight(Output(context, 1, TensorShape({width})), width),
        dbias(Output(context, 2, TensorShape({width})), width);
    const Eigen::ArrayXf rstd = 1.0f / (variance + eps).sqrt();
    std::vector<float> sums(2 * width);
    SumRows(context, rows, 2 * width, sums.data(), [&, width = width](int64_t row, float* sum) {
      const ConstVector gradient(dy + row * width, width);
      Vector(sum, width) += gradient * (ConstVector(x + row * width, width) - mean);
      Vector(sum + width, width) += gradient;
    });
    dweight = ConstVector(sums.data(), width) * rstd;
    dbias = ConstVector(sums.data() + width, width);
    const Eigen::ArrayXf scale = weight * rstd, slope = dweight * rstd / static_cast<float>(rows),
                         shift = dbias / static_cast<float>(rows);
    ForBlocks(context, rows, width, [&, width = width](int64_t, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const ConstVector in(x + row * width, width), gradient(dy + row * width, width);
        Vector out(dx + row * width, width);
        if (joined)
          out = scale * (gradient - shift - (in - mean) * slope) + ConstVector(joined + row * width, width);
        else
          out = scale * (gradient - shift - (in - mean) * slope);
      }
    });
  }
};

absl::Status LayerNormShape(tensorflow::shape_inference::InferenceContext* c) {
  tensorflow::shape_inference::ShapeHandle tokens;
  TF_RETURN_IF_ERROR(c->Subshape(c->input(0), 0, -1, &tokens));
  const auto rows = c->MakeShape({c->NumElements(tokens)});
  c->set_output(0, c->input(0));
  c->set_output(1, rows);
  c->set_output(2, rows);
  return absl::OkStatus();
}

absl::Status MomentsShape(tensorflow::shape_inference::InferenceContext* c) {
  const auto channels = c->MakeShape({c->Dim(c->input(0), -1)});
  c->set_output(0, channels);
  c->set_output(1, channels);
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("LabLayerNorm")
    .Input("x: float")
    .Input("weight: float")
    .Input("bias: float")
    .Attr("eps: float")
    .Output("y: float")
    .Output("mean: float")
    .Output("rstd: float")
    .SetShapeFn(LayerNormShape);
REGISTER_OP("LabLayerNormGrad")
    .Input("dy: float")
    .Input("x: float")
    .Input("weight: float")
    .Input("mean: float")
    .Input("rstd: float")
    .Input("join: joins * float")
    .Attr("joins: int >= 0")
    .Output("dx: float")
    .Output("dweight: float")
    .Output("dbias: float")
    .SetShapeFn(SameShapeAs<1, 2, 2>);
REGISTER_OP("LabBatchMoments")
    .Input("x: float")
    .Output("mean: float")
    .Output("variance: float")
    .SetShapeFn(MomentsShape);
REGISTER_OP("LabBatchNorm")
    .Input("x: float")
    .Input("weight: float")
    .Input("bias: float")
    .Input("mean: float")
    .Input("variance: float")
    .Attr("eps: float")
    .Output("y: float")
    .SetShapeFn(SameShapeAs<0>);
REGISTER_OP("LabBatchNormGrad")
    .Input("dy: float")
    .Input("x: float")
    .Input("weight: float")
    .Input("mean: float")
    .Input("variance: float")
    .Input("join: joins * float")
    .Attr("joins: int >= 0")
    .Attr("eps: float")
    .Output("dx: float")
    .Output("dweight: float")
    .Output("dbias: float")
    .SetShapeFn(SameShapeAs<1, 2, 2>);

LAB_REGISTER_KERNEL("LabLayerNorm", LayerNorm);
LAB_REGISTER_KERNEL("LabLayerNormGrad", LayerNormGrad);
LAB_REGISTER_KERNEL("LabBatchMoments", BatchMoments);
LAB_REGISTER_KERNEL("LabBatchNorm", BatchNorm);
LAB_REGISTER_KERNEL("LabBatchNormGrad", BatchNormGrad);

}  // namespace lab
