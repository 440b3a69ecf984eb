// Layer norm over the last axis and batch norm over all but it, each with its gradient, in one pass over memory where
// stock ops take seven (layer norm) to a dozen (the gradients).
#include "kernels.h"

namespace lab {
namespace {

float Eps(const Attrs& attrs) { return static_cast<float>(attrs.at("eps")); }

struct LayerNorm : Kernel {
  float eps;
  explicit LayerNorm(const Attrs& attrs) : eps(Eps(attrs)) {}

  void Run(Call& call) override {
    const int64_t width = call['c'], rows = call.sizes().Rows();
    const float *x = call.In(0), *weight = call.In(1), *bias = call.In(2);
    float *y = call.Out(0), *means = call.Out(1), *rstds = call.Out(2);
    ForBlocks(call, rows, width, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const float* in = x + row * width;
        RowSum sum, squares;
        ForSummed(width, [&](auto part, auto i) { sum.parts[i] += part.From(in); });
        const float mean = means[row] = sum.Total() / width;
        ForSummed(width, [&](auto part, auto i) {
          const Lanes centred = part.From(in) - part.Of(Broadcast(mean));
          squares.parts[i] = Fma(centred, centred, squares.parts[i]);
        });
        const float rstd = rstds[row] = 1.0f / SquareRoot(squares.Total() / width + eps);
        ForVectors(width, [&](auto part) {
          part.To(y + row * width, Fma(part.From(in) - mean, rstd * part.From(weight), part.From(bias)));
        });
      }
    });
  }
};

// dx = rstd · (g − mean(g) − x̂ · mean(g · x̂)) with g = dy · weight and x̂ = (x − mean) · rstd, and what is joined to it.
struct LayerNormGrad : Kernel {
  void Run(Call& call) override {
    const int64_t width = call['c'];
    const float *dy = call.In(0), *x = call.In(1), *weight = call.In(2), *mean = call.In(3), *rstd = call.In(4),
                *joined = call.In(5);
    float* dx = call.Out(0);
    float* sums = call.Allocate(2 * width);
    SumRows(call, call.sizes().Rows(), 2 * width, sums, [&](int64_t row, float* sum) {
      const int64_t at = row * width;
      const auto normalized = [&](auto part) {
        return (part.From(x + at) - part.Of(Broadcast(mean[row]))) * rstd[row];
      };
      RowSum g, gx;
      ForSummed(width, [&](auto part, auto i) {
        const Lanes in = normalized(part), gradient = part.From(dy + at), weighted = gradient * part.From(weight);
        part.To(sum, Fma(gradient, in, part.From(sum)));
        part.To(sum + width, part.From(sum + width) + gradient);
        g.parts[i] += weighted;
        gx.parts[i] = Fma(weighted, in, gx.parts[i]);
      });
      const float mean_g = g.Total() / width, mean_gx = gx.Total() / width;
      ForVectors(width, [&](auto part) {
        const Lanes centred = part.From(dy + at) * part.From(weight) - mean_g;
        Lanes out = rstd[row] * Fma(normalized(part), Broadcast(-mean_gx), centred);
        if (joined) out += part.From(joined + at);
        part.To(dx + at, out);
      });
    });
    std::copy_n(sums, width, call.Out(1));
    std::copy_n(sums + width, width, call.Out(2));
  }
};

// Mean and biased variance per channel. Each block sums around its own first row, so that nothing cancels where the
// mean is large against the spread; blocks are merged by the formula of Chan, Golub and LeVeque (1979). NaN of no rows.
struct BatchMoments : Kernel {
  void Run(Call& call) override {
    const int64_t width = call['c'], rows = call.sizes().Rows(), blocks = Blocks(rows);
    const float* x = call.In(0);
    float *mean = call.Out(0), *variance = call.Out(1);
    float *means = call.Allocate(blocks * width), *squares = call.Allocate(blocks * width);
    ForBlocks(call, rows, width, [&](int64_t block, int64_t begin, int64_t end) {
      float *sum = means + block * width, *square = squares + block * width;
      const float *origin = x + begin * width, n = static_cast<float>(end - begin);
      std::fill_n(sum, width, 0.0f);
      std::fill_n(square, width, 0.0f);
      for (int64_t row = begin; row < end; row++) {
        ForVectors(width, [&](auto part) {
          const Lanes delta = part.From(x + row * width) - part.From(origin);
          part.To(sum, part.From(sum) + delta);
          part.To(square, Fma(delta, delta, part.From(square)));
        });
      }
      ForVectors(width, [&](auto part) {
        const Lanes total = part.From(sum), shift = total / n;
        part.To(sum, part.From(origin) + shift);
        part.To(square, Fma(-total, shift, part.From(square)));
      });
    });
    std::fill_n(mean, width, rows ? 0.0f : NAN);
    std::fill_n(variance, width, 0.0f);
    float count = 0;
    for (int64_t block = 0; block < blocks; block++) {
      const float n = static_cast<float>((block + 1) * rows / blocks - block * rows / blocks),
                  fraction = n / (count + n), spread = count * fraction;
      ForVectors(width, [&](auto part) {
        const Lanes delta = part.From(means + block * width) - part.From(mean);
        part.To(mean, Fma(delta, Broadcast(fraction), part.From(mean)));
        part.To(variance,
                part.From(variance) + Fma(delta * delta, Broadcast(spread), part.From(squares + block * width)));
      });
      count += n;
    }
    ForVectors(width, [&](auto part) { part.To(variance, part.From(variance) / static_cast<float>(rows)); });
  }
};

struct BatchNorm : Kernel {
  float eps;
  explicit BatchNorm(const Attrs& attrs) : eps(Eps(attrs)) {}

  void Run(Call& call) override {
    const int64_t width = call['c'], rows = call.sizes().Rows();
    const float *x = call.In(0), *weight = call.In(1), *bias = call.In(2), *mean = call.In(3), *variance = call.In(4);
    float *y = call.Out(0), *scale = call.Allocate(width);
    ForVectors(width, [&](auto part) { part.To(scale, part.From(weight) / SquareRoot(part.From(variance) + eps)); });
    ForBlocks(call, rows, width, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * width;
        ForVectors(width, [&](auto part) {
          part.To(y + at, Fma(part.From(x + at) - part.From(mean), part.From(scale), part.From(bias)));
        });
      }
    });
  }
};

// The gradient through the batch's own statistics: dx = weight · rstd · (dy − mean(dy) − x̂ · mean(dy · x̂)), and what is
// joined to it.
struct BatchNormGrad : Kernel {
  float eps;
  explicit BatchNormGrad(const Attrs& attrs) : eps(Eps(attrs)) {}

  void Run(Call& call) override {
    const int64_t width = call['c'], rows = call.sizes().Rows();
    const float *dy = call.In(0), *x = call.In(1), *weight = call.In(2), *mean = call.In(3), *variance = call.In(4),
                *joined = call.In(5);
    float *dx = call.Out(0), *dweight = call.Out(1), *dbias = call.Out(2);
    float* sums = call.Allocate(2 * width);
    SumRows(call, rows, 2 * width, sums, [&](int64_t row, float* sum) {
      const int64_t at = row * width;
      ForVectors(width, [&](auto part) {
        const Lanes gradient = part.From(dy + at);
        part.To(sum, Fma(gradient, part.From(x + at) - part.From(mean), part.From(sum)));
        part.To(sum + width, part.From(sum + width) + gradient);
      });
    });
    float *scale = call.Allocate(width), *slope = call.Allocate(width), *shift = call.Allocate(width);
    const float n = static_cast<float>(rows);
    ForVectors(width, [&](auto part) {
      const Lanes rstd = 1.0f / SquareRoot(part.From(variance) + eps), product = part.From(sums) * rstd;
      part.To(dweight, product);
      part.To(dbias, part.From(sums + width));
      part.To(scale, part.From(weight) * rstd);
      part.To(slope, product * rstd / n);
      part.To(shift, part.From(sums + width) / n);
    });
    ForBlocks(call, rows, width, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * width;
        ForVectors(width, [&](auto part) {
          const Lanes centred = part.From(x + at) - part.From(mean), gradient = part.From(dy + at) - part.From(shift);
          const Lanes out = part.From(scale) * Fma(-centred, part.From(slope), gradient);
          part.To(dx + at, joined ? out + part.From(joined + at) : out);
        });
      }
    });
  }
};

void RowCount(Sizes& sizes, const Attrs&) { sizes.Set('r', sizes.Rows()); }

const Declared layer_norm{"LabLayerNorm", RowCount, Make<LayerNorm>};
const Declared layer_norm_grad{"LabLayerNormGrad", RowCount, Make<LayerNormGrad>};
const Declared batch_moments{"LabBatchMoments", NothingMore, Make<BatchMoments>};
const Declared batch_norm{"LabBatchNorm", NothingMore, Make<BatchNorm>};
const Declared batch_norm_grad{"LabBatchNormGrad", NothingMore, Make<BatchNormGrad>};

}  // namespace
}  // namespace lab
