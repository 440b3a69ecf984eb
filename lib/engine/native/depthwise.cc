// Depthwise convolutions (stride 1, "same" padding) with bias, and the gradient of their kernel, for which TensorFlow
// takes four times as long as for the convolution itself; and LocalProp, the transposed convolution whose kernel is its
// stride.
#include "kernels.h"

namespace lab {
namespace {

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
        for (int j = 0; j < K; j++) sum = Fma(weights[i][j], Load(rows[i] + (column + j - pad) * channels + c), sum);
      }
    } else {
      for (int i = 0; i < K; i++) {
        for (int j = 0; j < K; j++) {
          const int64_t at = column + j - pad;
          if (at >= 0 && at < width) sum = Fma(weights[i][j], Load(rows[i] + at * channels + c), sum);
        }
      }
    }
    Store(y + column * channels + c, sum);
  }
}

// Line `line` of the convolution of one image. `zeros` is as long as a line.
template <int K>
void Convolve(const float* image, int64_t line, int64_t height, int64_t width, int64_t channels, const float* kernel,
              const float* bias, const float* zeros, float* y) {
  const float* rows[K];
  for (int i = 0; i < K; i++) {
    const int64_t from = line + i - K / 2;
    rows[i] = from < 0 || from >= height ? zeros : image + from * width * channels;
  }
  for (int64_t c = 0; c + kLanes <= channels; c += kLanes) ConvolveRow<K>(rows, kernel, bias, width, channels, c, y);
  // The last vector begins early enough to end with the last channel; some channels are computed twice, alike.
  if (channels % kLanes) ConvolveRow<K>(rows, kernel, bias, width, channels, channels - kLanes, y);
}

struct DepthwiseConv : Kernel {
  void Run(Call& call) override { call['k'] == 3 ? Run<3>(call) : Run<5>(call); }

  template <int K>
  void Run(Call& call) {
    const int64_t height = call['h'], width = call['w'], channels = call['c'], row = width * channels;
    const float *x = call.In(0), *kernel = call.In(1), *bias = call.In(2);
    float* y = call.Out(0);
    const std::vector<float> zeros(row, 0.0f);
    ForBlocks(call, call['b'] * height, K * K * row / 4, [&](int64_t, int64_t begin, int64_t end) {
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
void FilterGradient(const float* x, const float* dy, int64_t height, int64_t width, int64_t stride, float* sums) {
  Lanes acc[K * K + 1];
  for (int tap = 0; tap <= K * K; tap++) acc[tap] = Load(sums + tap * kLanes);
  const int64_t row = (width + K - 1) * stride;
  for (int64_t y = 0; y < height; y++) {
    for (int64_t column = 0; column < width; column++) {
      const Lanes gradient = Load(dy + (y * width + column) * stride);
      const float* window = x + y * row + column * stride;
      for (int i = 0; i < K; i++) {
        for (int j = 0; j < K; j++) acc[i * K + j] = Fma(gradient, Load(window + i * row + j * stride), acc[i * K + j]);
      }
      acc[K * K] += gradient;
    }
  }
  for (int tap = 0; tap <= K * K; tap++) Store(sums + tap * kLanes, acc[tap]);
}

// All gradients image by image, so that x and dy come from memory once: dx is dy convolved with the reversed kernel.
struct DepthwiseConvGrad : Kernel {
  void Run(Call& call) override { call['k'] == 3 ? Run<3>(call) : Run<5>(call); }

  template <int K>
  void Run(Call& call) {
    const int64_t images = call['b'], height = call['h'], width = call['w'], channels = call['c'];
    const float *dy = call.In(0), *x = call.In(1), *kernel = call.In(2), *joined = call.In(3);
    float *dx = call.Out(0), *dkernel = call.Out(1), *dbias = call.Out(2);
    std::vector<float> reversed(K * K * channels);
    for (int tap = 0; tap < K * K; tap++)
      std::copy_n(kernel + (K * K - 1 - tap) * channels, channels, &reversed[tap * channels]);
    constexpr int kSums = K * K + 1;
    const int64_t groups = (channels + kLanes - 1) / kLanes, row = width * channels, image = height * row, pad = K / 2;
    const int64_t padded_row = (width + K - 1) * channels;
    const std::vector<float> zeros(std::max(row, channels), 0.0f);
    const int64_t blocks = Blocks(images), block_size = groups * kSums * kLanes;
    float* partial = call.Allocate(blocks * block_size);
    ForBlocks(call, images, 2 * image, [&](int64_t block, int64_t begin, int64_t end) {
      float* sums = partial + block * block_size;
      std::fill_n(sums, block_size, 0.0f);
      // Copies with a margin of a vector at the end, which the last pixel's lanes may read into.
      std::vector<float> padded((height + K - 1) * padded_row + kLanes, 0.0f), gradient(image + kLanes, 0.0f);
      for (int64_t n = begin; n < end; n++) {
        for (int64_t y = 0; y < height; y++)
          std::copy_n(x + n * image + y * row, row, &padded[(y + pad) * padded_row + pad * channels]);
        std::copy_n(dy + n * image, image, gradient.data());
        for (int64_t group = 0; group < groups; group++) {
          FilterGradient<K>(&padded[group * kLanes], &gradient[group * kLanes], height, width, channels,
                            sums + group * kSums * kLanes);
        }
        for (int64_t y = 0; y < height; y++) {
          float* out = dx + n * image + y * row;
          Convolve<K>(gradient.data(), y, height, width, channels, reversed.data(), zeros.data(), zeros.data(), out);
          if (joined) AddTo(out, joined + n * image + y * row, row);
        }
      }
    });
    for (int64_t c = 0; c < channels; c++) {
      const auto sum = [&](int tap) {
        float total = 0;
        for (int64_t block = 0; block < blocks; block++)
          total += partial[block * block_size + (c / kLanes * kSums + tap) * kLanes + c % kLanes];
        return total;
      };
      for (int tap = 0; tap < K * K; tap++) dkernel[tap * channels + c] = sum(tap);
      dbias[c] = sum(K * K);
    }
  }
};

struct Windows {
  int64_t width, rate, channels;
  explicit Windows(const Call& call) : width(call['w']), rate(call['r']), channels(call['c']) {}
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
struct LocalProp : Kernel {
  void Run(Call& call) override {
    const Windows windows(call);
    const int64_t c = windows.channels;
    const float *x = call.In(0), *kernel = call.In(1), *bias = call.In(2);
    float* y = call.Out(0);
    ForBlocks(call, call['b'] * call['h'], windows.width * windows.rate * windows.rate * c,
              [&](int64_t, int64_t begin, int64_t end) {
                for (int64_t row = begin; row < end; row++) {
                  windows.Row(row, [&](int64_t source, int64_t tap, int64_t target) {
                    ForVectors(c, [&](auto part) {
                      part.To(y + target, Fma(part.From(x + source), part.From(kernel + tap), part.From(bias)));
                    });
                  });
                }
              });
  }
};

struct LocalPropGrad : Kernel {
  void Run(Call& call) override {
    const Windows windows(call);
    const int64_t c = windows.channels, taps = windows.rate * windows.rate, rows = call['b'] * call['h'];
    const float *dy = call.In(0), *x = call.In(1), *kernel = call.In(2);
    float* dx = call.Out(0);
    std::fill_n(dx, rows * windows.width * c, 0.0f);
    SumRows(call, rows, taps * c, call.Out(1), [&](int64_t row, float* sum) {
      windows.Row(row, [&](int64_t source, int64_t tap, int64_t target) {
        ForVectors(c, [&](auto part) {
          const Lanes gradient = part.From(dy + target);
          part.To(dx + source, Fma(gradient, part.From(kernel + tap), part.From(dx + source)));
          part.To(sum + tap, Fma(gradient, part.From(x + source), part.From(sum + tap)));
        });
      });
    });
    SumRows(call, rows * windows.width * taps, c, call.Out(2),
            [&](int64_t pixel, float* sum) { AddTo(sum, dy + pixel * c, c); });
  }
};

// The kernels work by whole vectors, of at most sixteen channels: as many are needed, on narrower processors too, so
// that what is refused is refused everywhere.
void DepthwiseSizes(Sizes& sizes, const Attrs&) {
  if (sizes['k'] != kUnknown && sizes['k'] != 3 && sizes['k'] != 5)
    throw Refused("k is " + std::to_string(sizes['k']) + ", neither 3 nor 5");
  if (sizes['c'] != kUnknown && sizes['c'] < kSumLanes)
    throw Refused("c is " + std::to_string(sizes['c']) + ", less than " + std::to_string(kSumLanes));
}

void LocalPropSizes(Sizes& sizes, const Attrs&) {
  for (const auto& [from, to] : {std::pair('h', 'H'), std::pair('w', 'W')}) {
    if (sizes[from] == kUnknown || sizes['r'] == kUnknown) continue;
    sizes.Set(to, sizes[from] * sizes['r']);
  }
}

const Declared depthwise_conv{"LabDepthwiseConv", DepthwiseSizes, Make<DepthwiseConv>};
const Declared depthwise_conv_grad{"LabDepthwiseConvGrad", DepthwiseSizes, Make<DepthwiseConvGrad>};
const Declared local_prop{"LabLocalProp", LocalPropSizes, Make<LocalProp>};
const Declared local_prop_grad{"LabLocalPropGrad", LocalPropSizes, Make<LocalPropGrad>};

}  // namespace
}  // namespace lab
