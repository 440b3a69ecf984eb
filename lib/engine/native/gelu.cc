// Bias and activation in one pass: y = gelu(x + bias), the exact GELU x · Φ(x), and its gradient in closed form,
// Φ(x) + x · φ(x). Stock ops take five passes for the one and fourteen for the other.
#include "kernels.h"

namespace lab {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;

constexpr float kInvSqrt2Pi = 0.39894228040143268f;  // φ(x) = exp(−x²/2) / √(2π)

struct BiasGelu : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const int64_t width = context->input(1).NumElements(), rows = context->input(0).NumElements() / width;
    const float* x = Data(context, 0);
    const ConstVector bias(Data(context, 1), width);
    float* y = Output(context, 0, context->input(0).shape());
    ForBlocks(context, rows, 4 * width, [&](int64_t, int64_t begin, int64_t end) {
      Eigen::ArrayXf in(width);
      for (int64_t row = begin; row < end; row++) {
        in = ConstVector(x + row * width, width) + bias;
        Vector(y + row * width, width) = in * (0.5f + 0.5f * (in * kSqrtHalf).erf());
      }
    });
  }
};

struct BiasGeluGrad : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const int64_t width = context->input(2).NumElements(), rows = context->input(1).NumElements() / width;
    const float *dy = Data(context, 0), *x = Data(context, 1);
    const ConstVector bias(Data(context, 2), width);
    float* dx = Output(context, 0, context->input(1).shape());
    float* dbias = Output(context, 1, context->input(2).shape());
    SumRows(context, rows, width, dbias, [&](int64_t row, float* sum) {
      Vector out(dx + row * width, width);
      out = ConstVector(x + row * width, width) + bias;
      out = ConstVector(dy + row * width, width) * (0.5f + 0.5f * (out * kSqrtHalf).erf() + out * kInvSqrt2Pi * (-0.5f * out.square()).exp());
      Vector(sum, width) += out;
    });
  }
};

}  // namespace

REGISTER_OP("LabBiasGelu").Input("x: float").Input("bias: float").Output("y: float").SetShapeFn(SameShapeAs<0>);
REGISTER_OP("LabBiasGeluGrad").Input("dy: float").Input("x: float").Input("bias: float").Output("dx: float").Output("dbias: float").SetShapeFn(SameShapeAs<1, 2>);

LAB_REGISTER_KERNEL("LabBiasGelu", BiasGelu);
LAB_REGISTER_KERNEL("LabBiasGeluGrad", BiasGeluGrad);

}  // namespace lab
