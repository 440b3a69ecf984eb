// What else a training step does over and over: the gradient of a bias, and the optimizer's update of a parameter.
#include "kernels.h"
#include "lanes.h"

namespace lab {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::TensorShape;

// [..., c] → [c]
struct ChannelSum : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const auto& shape = context->input(0).shape();
    const int64_t width = shape.dim_size(shape.dims() - 1), rows = shape.num_elements() / width;
    const float* x = Data(context, 0);
    float* sum = Output(context, 0, TensorShape({width}));
    SumRows(context, rows, width, sum,
            [&](int64_t row, float* partial) { Vector(partial, width) += ConstVector(x + row * width, width); });
  }
};

// x [b, …] + branch [b, …] · scale [b]: a residual with drop path.
struct AddScaled : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const auto& shape = context->input(0).shape();
    const int64_t batch = shape.dim_size(0), size = batch ? shape.num_elements() / batch : 0;
    const float *x = Data(context, 0), *branch = Data(context, 1), *scale = Data(context, 2);
    float* y = Output(context, 0, shape);
    ForBlocks(context, batch, size, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++)
        Vector(y + n * size, size) = ConstVector(x + n * size, size) + ConstVector(branch + n * size, size) * scale[n];
    });
  }
};

// One pass over parameter, moments and gradient: m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², p ← keep · p − step · m
// / (√v + ε).
struct Adam : OpKernel {
  float beta1, beta2, rest1, rest2;  // rest = 1 − β, which float32 would not give from β
  explicit Adam(tensorflow::OpKernelConstruction* construction) : OpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("beta1", &beta1));
    OP_REQUIRES_OK(construction, construction->GetAttr("beta2", &beta2));
    OP_REQUIRES_OK(construction, construction->GetAttr("rest1", &rest1));
    OP_REQUIRES_OK(construction, construction->GetAttr("rest2", &rest2));
  }
  void Compute(OpKernelContext* context) override {
    const auto& shape = context->input(0).shape();
    const float *param = Data(context, 0), *mean = Data(context, 1), *square = Data(context, 2),
                *grad = Data(context, 3);
    const float step = *Data(context, 4), epsilon = *Data(context, 5), keep = *Data(context, 6);
    float *new_param = Output(context, 0, shape), *new_mean = Output(context, 1, shape),
          *new_square = Output(context, 2, shape);
    const auto update = [&](auto part, auto store) {
      const Lanes g = part.From(grad), m = beta1 * part.From(mean) + rest1 * g,
                  v = beta2 * part.From(square) + rest2 * (g * g);
      store(new_mean, m);
      store(new_square, v);
      store(new_param, keep * part.From(param) - step * m / (SquareRoot(v) + epsilon));
    };
    const int64_t size = shape.num_elements(), vectors = size / kLanes;
    ForBlocks(context, vectors, 4 * kLanes, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t at = begin * kLanes; at < end * kLanes; at += kLanes) {
        update(Whole{at},
               [&](float* to, Lanes values) { size < kLarge ? Store(to + at, values) : Stream(to + at, values); });
      }
      StreamsEnd();
    });
    if (const Part rest{vectors * kLanes, size % kLanes}; rest.count)
      update(rest, [&](float* to, Lanes values) { rest.To(to, values); });
  }

 private:
  static constexpr int64_t kLarge = 1 << 14;  // floats that a cache would not hold until the next step
};

absl::Status ChannelShape(tensorflow::shape_inference::InferenceContext* c) {
  c->set_output(0, c->MakeShape({c->Dim(c->input(0), -1)}));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("LabChannelSum").Input("x: float").Output("sum: float").SetShapeFn(ChannelShape);
REGISTER_OP("LabAddScaled")
    .Input("x: float")
    .Input("branch: float")
    .Input("scale: float")
    .Output("y: float")
    .SetShapeFn(SameShapeAs<0>);
REGISTER_OP("LabAdam")
    .Input("param: float")
    .Input("mean: float")
    .Input("square: float")
    .Input("grad: float")
    .Input("step: float")
    .Input("epsilon: float")
    .Input("keep: float")
    .Attr("beta1: float")
    .Attr("beta2: float")
    .Attr("rest1: float")
    .Attr("rest2: float")
    .Output("new_param: float")
    .Output("new_mean: float")
    .Output("new_square: float")
    .SetShapeFn(SameShapeAs<0, 1, 2>);

LAB_REGISTER_KERNEL("LabChannelSum", ChannelSum);
LAB_REGISTER_KERNEL("LabAddScaled", AddScaled);
LAB_REGISTER_KERNEL("LabAdam", Adam);

}  // namespace lab
