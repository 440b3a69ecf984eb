// Depthwise convolutions (stride 1, "same" padding) with bias, and the gradient of their kernel, for which TensorFlow
// takes four times as long as for the convolution itself; and LocalProp, the transposed convolution whose kernel is its
// stride.
#include <algorithm>

#include "kernels.h"
#include "lanes.h"

namespace lab {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// One row of the convolution's result, for channels [c, c + kLanes). `rows` are the K rows of x around it, zeros
// outside.
template <int K>
void ConvolveRow(const float* const* rows, const float* kernel, const float* bias, int64_t width, int64_t channels,
                 int64_t c, float* y) {
  Lanes weights[K][K];
  for (int i = 0; i < K; i++) {
    for (int j = 0; j < K; j++) weights[i][j] = Load(kernel + (i * K + j) * channels + c);
  }
  const Lanes shift = Load(bias + c);
  constexpr int64_t pad = K / 2;
  for (int64_t column = 0; column < width; column++) {
    Lanes sum = shift;
    if (column >= pad && column < width - pad) {
      for (int i = 0; i < K; i++) {
        for (int j = 0; j < K; j++) sum += weights[i][j] * Load(rows[i] + (column + j - pad) * channels + c);
      }
    } else {
      for (int i = 0; i < K; i++) {
        for (int j = 0; j < K; j++) {
          const int64_t at = column + j - pad;
          if (at >= 0 && at < width) sum += weights[i][j] * Load(rows[i] + at * channels + c);
        }
      }
    }
    Store(y + column * channels + c, sum);
  }
}

// Line `line` of the convolution of one image. `zeros` is as long as a line.
template <int K>
void Convolve(const float* picture, int64_t line, int64_t height, int64_t width, int64_t channels, const float* kernel,
              const float* bias, const float* zeros, float* y) {
  const float* rows[K];
  for (int i = 0; i < K; i++) {
    const int64_t from = line + i - K / 2;
    rows[i] = from < 0 || from >= height ? zeros : picture + from * width * channels;
  }
  for (int64_t c = 0; c + kLanes <= channels; c += kLanes) ConvolveRow<K>(rows, kernel, bias, width, channels, c, y);
  // The last vector begins early enough to end with the last channel; some channels are computed twice, alike.
  if (channels % kLanes) ConvolveRow<K>(rows, kernel, bias, width, channels, channels - kLanes, y);
}

struct DepthwiseConv : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    context->input(1).dim_size(0) == 3 ? Run<3>(context) : Run<5>(context);
  }

  template <int K>
  void Run(OpKernelContext* context) {
    const Tensor& input = context->input(0);
    const int64_t height = input.dim_size(1), width = input.dim_size(2), channels = input.dim_size(3),
                  row = width * channels;
    const float *x = Data(context, 0), *kernel = Data(context, 1), *bias = Data(context, 2);
    float* y = Output(context, 0, input.shape());
    const std::vector<float> zeros(row, 0.0f);
    ForBlocks(context, input.dim_size(0) * height, K * K * row / 4, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; at++)
        Convolve<K>(x + at / height * height * row, at % height, height, width, channels, kernel, bias, zeros.data(),
                    y + at * row);
    });
  }
};

// Sums over pixels of x[y + i, x + j] · dy[y, x] for all taps (i, j), and of dy, for one group of channels: they stay
// in registers. `x` is padded; `stride` is the number of channels. Lanes past the last channel hold garbage that nobody
// reads.
template <int K>
void FilterGradient(const float* x, const float* dy, int64_t height, int64_t width, int64_t stride, Lanes* sums) {
  Lanes acc[K * K + 1];
  std::copy_n(sums, K * K + 1, acc);
  const int64_t row = (width + K - 1) * stride;
  for (int64_t y = 0; y < height; y++) {
    for (int64_t column = 0; column < width; column++) {
      const Lanes gradient = Load(dy + (y * width + column) * stride);
      const float* window = x + y * row + column * stride;
      for (int i = 0; i < K; i++) {
        for (int j = 0; j < K; j++) acc[i * K + j] += gradient * Load(window + i * row + j * stride);
      }
      acc[K * K] += gradient;
    }
  }
  std::copy_n(acc, K * K + 1, sums);
}

// All gradients image by image, so that x and dy come from memory once: dx is dy convolved with the reversed
// kernel.
struct DepthwiseConvGrad : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    context->input(2).dim_size(0) == 3 ? Run<3>(context) : Run<5>(context);
  }

  template <int K>
  void Run(OpKernelContext* context) {
    const Tensor& input = context->input(1);
    const int64_t batch = input.dim_size(0), height = input.dim_size(1), width = input.dim_size(2),
                  channels = input.dim_size(3);
    const float *dy = Data(context, 0), *x = Data(context, 1), *kernel = Data(context, 2),
                *joined = context->num_inputs() > 3 ? Data(context, 3) : nullptr;
    float *dx = Output(context, 0, input.shape()), *dkernel = Output(context, 1, context->input(2).shape()),
          *dbias = Output(context, 2, TensorShape({channels}));
    std::vector<float> reversed(K * K * channels);
    for (int tap = 0; tap < K * K; tap++)
      std::copy_n(kernel + (K * K - 1 - tap) * channels, channels, &reversed[tap * channels]);
    constexpr int kSums = K * K + 1;
    const int64_t groups = (channels + kLanes - 1) / kLanes, row = width * channels, image = height * row, pad = K / 2;
    const int64_t padded_row = (width + K - 1) * channels;
    const std::vector<float> zeros(row, 0.0f);
    std::vector<float> partial(Blocks(batch) * groups * kSums * kLanes, 0.0f);
    ForBlocks(context, batch, 2 * image, [&](int64_t block, int64_t begin, int64_t end) {
      // Copies with a margin of a vector at the end, which the last pixel's lanes may read into.
      std::vector<float> padded((height + K - 1) * padded_row + kLanes, 0.0f), gradient(image + kLanes, 0.0f);
      for (int64_t n = begin; n < end; n++) {
        for (int64_t y = 0; y < height; y++)
          std::copy_n(x + n * image + y * row, row, &padded[(y + pad) * padded_row + pad * channels]);
        std::copy_n(dy + n * image, image, gradient.data());
        for (int64_t group = 0; group < groups; group++) {
          FilterGradient<K>(&padded[group * kLanes], &gradient[group * kLanes], height, width, channels,
                            reinterpret_cast<Lanes*>(&partial[(block * groups + group) * kSums * kLanes]));
        }
        for (int64_t y = 0; y < height; y++) {
          float* out = dx + n * image + y * row;
          Convolve<K>(gradient.data(), y, height, width, channels, reversed.data(), zeros.data(), zeros.data(), out);
          if (joined) Vector(out, row) += ConstVector(joined + n * image + y * row, row);
        }
      }
    });
    for (int64_t c = 0; c < channels; c++) {
      const auto sum = [&](int tap) {
        float total = 0;
        for (int64_t block = 0; block < Blocks(batch); block++)
          total += partial[((block * groups + c / kLanes) * kSums + tap) * kLanes + c % kLanes];
        return total;
      };
      for (int tap = 0; tap < K * K; tap++) dkernel[tap * channels + c] = sum(tap);
      dbias[c] = sum(K * K);
    }
  }
};

struct Windows {
  int64_t batch, height, width, rate, channels;
  Windows(const Tensor& x, const Tensor& kernel)
      : batch(x.dim_size(0)),
        height(x.dim_size(1)),
        width(x.dim_size(2)),
        rate(kernel.dim_size(0)),
        channels(x.dim_size(3)) {}
  TensorShape filled() const { return TensorShape({batch, height * rate, width * rate, channels}); }
  // f(source pixel, tap, target pixel) for all pixels of a row of windows.
  template <typename F>
  void Row(int64_t row, F f) const {
    for (int64_t i = 0; i < rate; i++) {
      for (int64_t x = 0; x < width; x++) {
        for (int64_t j = 0; j < rate; j++)
          f((row * width + x) * channels, (i * rate + j) * channels,
            ((row * rate + i) * width * rate + x * rate + j) * channels);
      }
    }
  }
};

// y[b, h·r + i, w·r + j] = x[b, h, w] · kernel[i, j] + bias
struct LocalProp : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const Windows windows(context->input(0), context->input(1));
    const int64_t c = windows.channels;
    const float *x = Data(context, 0), *kernel = Data(context, 1);
    const ConstVector bias(Data(context, 2), c);
    float* y = Output(context, 0, windows.filled());
    ForBlocks(context, windows.batch * windows.height, windows.width * windows.rate * windows.rate * c,
              [&](int64_t, int64_t begin, int64_t end) {
                for (int64_t row = begin; row < end; row++) {
                  windows.Row(row, [&](int64_t source, int64_t tap, int64_t target) {
                    Vector(y + target, c) = ConstVector(x + source, c) * ConstVector(kernel + tap, c) + bias;
                  });
                }
              });
  }
};

struct LocalPropGrad : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const Windows windows(context->input(1), context->input(2));
    const int64_t c = windows.channels, taps = windows.rate * windows.rate;
    const float *dy = Data(context, 0), *x = Data(context, 1), *kernel = Data(context, 2);
    float *dx = Output(context, 0, context->input(1).shape()), *dkernel = Output(context, 1, context->input(2).shape()),
          *dbias = Output(context, 2, TensorShape({c}));
    std::fill_n(dx, context->input(1).NumElements(), 0.0f);
    SumRows(context, windows.batch * windows.height, taps * c, dkernel, [&](int64_t row, float* sum) {
      windows.Row(row, [&](int64_t source, int64_t tap, int64_t target) {
        Vector(dx + source, c) += ConstVector(dy + target, c) * ConstVector(kernel + tap, c);
        Vector(sum + tap, c) += ConstVector(dy + target, c) * ConstVector(x + source, c);
      });
    });
    SumRows(context, windows.filled().num_elements() / c, c, dbias,
            [&](int64_t pixel, float* sum) { Vector(sum, c) += ConstVector(dy + pixel * c, c); });
  }
};

absl::Status LocalPropShape(tensorflow::shape_inference::InferenceContext* c) {
  std::vector<tensorflow::shape_inference::DimensionHandle> dims;
  for (int i = 0; i < 4; i++) dims.push_back(c->Dim(c->input(0), i));
  const auto rate = c->Dim(c->input(1), 0);
  TF_RETURN_IF_ERROR(c->Multiply(dims[1], rate, &dims[1]));
  TF_RETURN_IF_ERROR(c->Multiply(dims[2], rate, &dims[2]));
  c->set_output(0, c->MakeShape(dims));
  return absl::OkStatus();
}

// Gradients of an image, a kernel and a bias.
absl::Status KernelGradShape(tensorflow::shape_inference::InferenceContext* c) {
  c->set_output(0, c->input(1));
  c->set_output(1, c->input(2));
  c->set_output(2, c->MakeShape({c->Dim(c->input(1), 3)}));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("LabDepthwiseConv")
    .Input("x: float")
    .Input("kernel: float")
    .Input("bias: float")
    .Output("y: float")
    .SetShapeFn(SameShapeAs<0>);
REGISTER_OP("LabDepthwiseConvGrad")
    .Input("dy: float")
    .Input("x: float")
    .Input("kernel: float")
    .Input("join: joins * float")
    .Attr("joins: int >= 0")
    .Output("dx: float")
    .Output("dkernel: float")
    .Output("dbias: float")
    .SetShapeFn(KernelGradShape);
REGISTER_OP("LabLocalProp")
    .Input("x: float")
    .Input("kernel: float")
    .Input("bias: float")
    .Output("y: float")
    .SetShapeFn(LocalPropShape);
REGISTER_OP("LabLocalPropGrad")
    .Input("dy: float")
    .Input("x: float")
    .Input("kernel: float")
    .Output("dx: float")
    .Output("dkernel: float")
    .Output("dbias: float")
    .SetShapeFn(KernelGradShape);

LAB_REGISTER_KERNEL("LabDepthwiseConv", DepthwiseConv);
LAB_REGISTER_KERNEL("LabDepthwiseConvGrad", DepthwiseConvGrad);
LAB_REGISTER_KERNEL("LabLocalProp", LocalProp);
LAB_REGISTER_KERNEL("LabLocalPropGrad", LocalPropGrad);

}  // namespace lab
