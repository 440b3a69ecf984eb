// Depthwise convolutions (stride 1, "same" padding) with bias, and the gradient of their kernel, for which TensorFlow takes
// four times as long as for the convolution itself; and LocalProp, the transposed convolution whose kernel is its stride.
#include <cstring>

#include "kernels.h"
#include "lanes.h"

namespace lab {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// One row of the convolution's result, for channels [c, c + kLanes). `rows` are the K rows of x around it, zeros outside.
template <int K>
void ConvolveRow(const float* const* rows, const float* kernel, const float* bias, int64_t width, int64_t channels, int64_t c, float* y) {
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

struct DepthwiseConv : OpKernel {
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override { context->input(1).dim_size(0) == 3 ? Run<3>(context) : Run<5>(context); }

  template <int K>
  void Run(OpKernelContext* context) {
    const Tensor& input = context->input(0);
    const int64_t height = input.dim_size(1), width = input.dim_size(2), channels = input.dim_size(3), row = width * channels;
    const float *x = Data(context, 0), *kernel = Data(context, 1), *bias = Data(context, 2);
    float* y = Output(context, 0, input.shape());
    const std::vector<float> zeros(row, 0.0f);
    ForBlocks(context, input.dim_size(0) * height, K * K * row / 4, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; at++) {
        const int64_t line = at % height;
        const float* rows[K];
        for (int i = 0; i < K; i++) {
          const int64_t from = line + i - K / 2;
          rows[i] = from < 0 || from >= height ? zeros.data() : x + (at + i - K / 2) * row;
        }
        for (int64_t c = 0; c + kLanes <= channels; c += kLanes) ConvolveRow<K>(rows, kernel, bias, width, channels, c, y + at * row);
        // The last vector begins early enough to end with the last channel; some channels are computed twice, alike.
        if (channels % kLanes) ConvolveRow<K>(rows, kernel, bias, width, channels, channels - kLanes, y + at * row);
      }
    });
  }
};

// Sum over pixels of x[y + i, x + j] · dy[y, x] for all taps (i, j) of one group of channels: the K·K sums stay in registers.
// `x` is padded; `stride` is the number of channels. Lanes past the last channel hold garbage that nobody reads.
template <int K>
void FilterGradient(const float* x, const float* dy, int64_t height, int64_t width, int64_t stride, Lanes* sums) {
  Lanes acc[K * K];
  for (int tap = 0; tap < K * K; tap++) acc[tap] = sums[tap];
  const int64_t row = (width + K - 1) * stride;
  for (int64_t y = 0; y < height; y++) {
    for (int64_t column = 0; column < width; column++) {
      const Lanes gradient = Load(dy + (y * width + column) * stride);
      const float* window = x + y * row + column * stride;
      for (int i = 0; i < K; i++) {
        for (int j = 0; j < K; j++) acc[i * K + j] += gradient * Load(window + i * row + j * stride);
      }
    }
  }
  for (int tap = 0; tap < K * K; tap++) sums[tap] = acc[tap];
}

struct DepthwiseFilterGrad : OpKernel {
  int kernel;
  explicit DepthwiseFilterGrad(tensorflow::OpKernelConstruction* construction) : OpKernel(construction) { OP_REQUIRES_OK(construction, construction->GetAttr("kernel", &kernel)); }
  void Compute(OpKernelContext* context) override { kernel == 3 ? Run<3>(context) : Run<5>(context); }

  template <int K>
  void Run(OpKernelContext* context) {
    const Tensor& input = context->input(0);
    const int64_t batch = input.dim_size(0), height = input.dim_size(1), width = input.dim_size(2), channels = input.dim_size(3);
    const float *x = Data(context, 0), *dy = Data(context, 1);
    float* dkernel = Output(context, 0, TensorShape({K, K, channels, 1}));
    const int64_t groups = (channels + kLanes - 1) / kLanes, image = height * width * channels, pad = K / 2;
    const int64_t padded_row = (width + K - 1) * channels;
    std::vector<float> partial(Blocks(batch) * groups * K * K * kLanes, 0.0f);
    ForBlocks(context, batch, image, [&](int64_t block, int64_t begin, int64_t end) {
      // Copies with a margin of a vector at the end, which the last pixel's lanes may read into.
      std::vector<float> padded((height + K - 1) * padded_row + kLanes, 0.0f), gradient(image + kLanes, 0.0f);
      for (int64_t n = begin; n < end; n++) {
        for (int64_t y = 0; y < height; y++) {
          std::memcpy(&padded[(y + pad) * padded_row + pad * channels], x + n * image + y * width * channels, width * channels * sizeof(float));
        }
        std::memcpy(gradient.data(), dy + n * image, image * sizeof(float));
        for (int64_t group = 0; group < groups; group++) {
          FilterGradient<K>(&padded[group * kLanes], &gradient[group * kLanes], height, width, channels,
                            reinterpret_cast<Lanes*>(&partial[(block * groups + group) * K * K * kLanes]));
        }
      }
    });
    for (int tap = 0; tap < K * K; tap++) {
      for (int64_t c = 0; c < channels; c++) {
        float sum = 0;
        for (int64_t block = 0; block < Blocks(batch); block++) sum += partial[((block * groups + c / kLanes) * K * K + tap) * kLanes + c % kLanes];
        dkernel[tap * channels + c] = sum;
      }
    }
  }
};

struct Windows {
  int64_t batch, height, width, rate, channels;
  Windows(const Tensor& x, const Tensor& kernel)
      : batch(x.dim_size(0)), height(x.dim_size(1)), width(x.dim_size(2)), rate(kernel.dim_size(0)), channels(x.dim_size(3)) {}
  TensorShape filled() const { return TensorShape({batch, height * rate, width * rate, channels}); }
  // f(source pixel, tap, target pixel) for all pixels of a row of windows.
  template <typename F>
  void Row(int64_t row, F f) const {
    for (int64_t i = 0; i < rate; i++) {
      for (int64_t x = 0; x < width; x++) {
        for (int64_t j = 0; j < rate; j++) f((row * width + x) * channels, (i * rate + j) * channels, ((row * rate + i) * width * rate + x * rate + j) * channels);
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
    ForBlocks(context, windows.batch * windows.height, windows.width * windows.rate * windows.rate * c, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        windows.Row(row, [&](int64_t source, int64_t tap, int64_t target) { Vector(y + target, c) = ConstVector(x + source, c) * ConstVector(kernel + tap, c) + bias; });
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
    float *dx = Output(context, 0, context->input(1).shape()), *dkernel = Output(context, 1, context->input(2).shape()), *dbias = Output(context, 2, TensorShape({c}));
    std::fill_n(dx, context->input(1).NumElements(), 0.0f);
    SumRows(context, windows.batch * windows.height, taps * c, dkernel, [&](int64_t row, float* sum) {
      windows.Row(row, [&](int64_t source, int64_t tap, int64_t target) {
        Vector(dx + source, c) += ConstVector(dy + target, c) * ConstVector(kernel + tap, c);
        Vector(sum + tap, c) += ConstVector(dy + target, c) * ConstVector(x + source, c);
      });
    });
    SumRows(context, windows.filled().num_elements() / c, c, dbias, [&](int64_t pixel, float* sum) { Vector(sum, c) += ConstVector(dy + pixel * c, c); });
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

absl::Status FilterGradShape(tensorflow::shape_inference::InferenceContext* c) {
  int kernel;
  TF_RETURN_IF_ERROR(c->GetAttr("kernel", &kernel));
  c->set_output(0, c->MakeShape({c->MakeDim(kernel), c->MakeDim(kernel), c->Dim(c->input(0), 3), c->MakeDim(1)}));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("LabDepthwiseConv").Input("x: float").Input("kernel: float").Input("bias: float").Output("y: float").SetShapeFn(SameShapeAs<0>);
REGISTER_OP("LabDepthwiseFilterGrad").Input("x: float").Input("dy: float").Attr("kernel: int").Output("dkernel: float").SetShapeFn(FilterGradShape);
REGISTER_OP("LabLocalProp").Input("x: float").Input("kernel: float").Input("bias: float").Output("y: float").SetShapeFn(LocalPropShape);
REGISTER_OP("LabLocalPropGrad").Input("dy: float").Input("x: float").Input("kernel: float").Output("dx: float").Output("dkernel: float").Output("dbias: float").SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
  c->set_output(2, c->MakeShape({c->Dim(c->input(1), 3)}));
  c->set_output(0, c->input(1));
  c->set_output(1, c->input(2));
  return absl::OkStatus();
});

LAB_REGISTER_KERNEL("LabDepthwiseConv", DepthwiseConv);
LAB_REGISTER_KERNEL("LabDepthwiseFilterGrad", DepthwiseFilterGrad);
LAB_REGISTER_KERNEL("LabLocalProp", LocalProp);
LAB_REGISTER_KERNEL("LabLocalPropGrad", LocalPropGrad);

}  // namespace lab
