// Bias and activation in one pass: y = gelu(x + bias), the exact GELU x · Φ(x), and its gradient in closed form,
// Φ(x) + x · φ(x). Stock ops take five passes for the one and fourteen for the other.
#include "kernels.h"
#include "lanes.h"

namespace lab {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;

struct BiasGelu : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const int64_t width = context->input(1).NumElements(), rows = context->input(0).NumElements() / width;
    const float *x = Data(context, 0), *bias = Data(context, 1);
    float* y = Output(context, 0, context->input(0).shape());
    ForBlocks(context, rows, 4 * width, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        ForVectors(width, [&](auto part) {
          const Lanes in = part.From(x + row * width) + part.From(bias);
          part.To(y + row * width, in * Normal(in).distribution);
        });
      }
    });
  }
};

struct BiasGeluGrad : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const int64_t width = context->input(2).NumElements(), rows = context->input(1).NumElements() / width;
    const float *dy = Data(context, 0), *x = Data(context, 1), *bias = Data(context, 2);
    float* dx = Output(context, 0, context->input(1).shape());
    float* dbias = Output(context, 1, context->input(2).shape());
    SumRows(context, rows, width, dbias, [&](int64_t row, float* sum) {
      ForVectors(width, [&](auto part) {
        const Lanes in = part.From(x + row * width) + part.From(bias);
        const Normal normal(in);
        const Lanes out = part.From(dy + row * width) * (normal.distribution + in * normal.density);
        part.To(dx + row * width, out);
        part.To(sum, part.From(sum) + out);
      });
    });
  }
};

}  // namespace

REGISTER_OP("LabBiasGelu").Input("x: float").Input("bias: float").Output("y: float").SetShapeFn(SameShapeAs<0>);
REGISTER_OP("LabBiasGeluGrad")
    .Input("dy: float")
    .Input("x: float")
    .Input("bias: float")
    .Output("dx: float")
    .Output("dbias: float")
    .SetShapeFn(SameShapeAs<1, 2>);

LAB_REGISTER_KERNEL("LabBiasGelu", BiasGelu);
LAB_REGISTER_KERNEL("LabBiasGeluGrad", BiasGeluGrad);

}  // namespace lab
