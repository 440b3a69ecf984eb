// A vector of the widest registers that the compiler was told of, and functions on it that give the same bits on every
// processor: IEEE operations in one order, a fused multiply-add wherever it says Fma and nowhere else (the compiler is
// told not to contract), no libm, no approximate reciprocals. What is summed along a row is summed over sixteen lanes,
// whatever a register holds (see RowSum).
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace lab {

#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
#elif defined(__AVX__)
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 4;
#endif
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t IntLanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef uint32_t BitLanes __attribute__((vector_size(kLanes * sizeof(float))));  // whose sums may wrap around
// The same in memory, wherever a float may stand.
typedef float LanesInMemory __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));

inline Lanes Load(const float* from) { return *reinterpret_cast<const LanesInMemory*>(from); }
inline void Store(float* to, Lanes values) { *reinterpret_cast<LanesInMemory*>(to) = values; }

// Past the caches, for what nobody reads soon: memory need not be read before it is written. StreamsEnd() before others
// may read it.
inline void Stream(float* to, Lanes values) {
#if defined(__AVX512F__)
  if (reinterpret_cast<uintptr_t>(to) % sizeof(Lanes) == 0) return _mm512_stream_ps(to, values);
#endif
  Store(to, values);
}
inline void StreamsEnd() {
#if defined(__AVX512F__)
  _mm_sfence();
#endif
}

// Four rows of four values, of which the columns are written: the first at `to`, the next ones `to_stride` apart.
inline void TransposeFour(const float* from, int64_t stride, float* to, int64_t to_stride) {
  typedef float Four __attribute__((vector_size(16)));
  typedef float FourInMemory __attribute__((vector_size(16), aligned(4), may_alias));
#if defined(__clang__)
#define LAB_PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
  typedef int32_t IntFour __attribute__((vector_size(16)));
#define LAB_PICK(a, b, ...) __builtin_shuffle(a, b, (IntFour){__VA_ARGS__})
#endif
  Four rows[4];
  for (int i = 0; i < 4; i++) rows[i] = *reinterpret_cast<const FourInMemory*>(from + i * stride);
  const Four even = LAB_PICK(rows[0], rows[2], 0, 4, 1, 5), odd = LAB_PICK(rows[1], rows[3], 0, 4, 1, 5),
             even_end = LAB_PICK(rows[0], rows[2], 2, 6, 3, 7), odd_end = LAB_PICK(rows[1], rows[3], 2, 6, 3, 7);
  const Four columns[4] = {LAB_PICK(even, odd, 0, 4, 1, 5), LAB_PICK(even, odd, 2, 6, 3, 7),
                           LAB_PICK(even_end, odd_end, 0, 4, 1, 5), LAB_PICK(even_end, odd_end, 2, 6, 3, 7)};
#undef LAB_PICK
  for (int i = 0; i < 4; i++) *reinterpret_cast<FourInMemory*>(to + i * to_stride) = columns[i];
}

inline Lanes Broadcast(float value) { return value - Lanes{}; }

// The first `count` lanes, the others zero.
#if defined(__AVX512F__)
inline __mmask16 FirstLanes(int64_t count) { return static_cast<__mmask16>((1u << count) - 1); }
inline Lanes LoadPart(const float* from, int64_t count) { return _mm512_maskz_loadu_ps(FirstLanes(count), from); }
inline void StorePart(float* to, int64_t count, Lanes values) { _mm512_mask_storeu_ps(to, FirstLanes(count), values); }
inline Lanes FirstOf(Lanes values, int64_t count) { return _mm512_maskz_mov_ps(FirstLanes(count), values); }
#elif defined(__AVX__)
inline __m256i FirstLanes(int64_t count) {
  alignas(64) static constexpr int32_t masks[2 * kLanes] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(masks + kLanes - count));
}
inline Lanes LoadPart(const float* from, int64_t count) { return _mm256_maskload_ps(from, FirstLanes(count)); }
inline void StorePart(float* to, int64_t count, Lanes values) { _mm256_maskstore_ps(to, FirstLanes(count), values); }
inline Lanes FirstOf(Lanes values, int64_t count) {
  return _mm256_and_ps(values, _mm256_castsi256_ps(FirstLanes(count)));
}
#else
inline Lanes LoadPart(const float* from, int64_t count) {
  Lanes values{};
  std::memcpy(&values, from, count * sizeof(float));
  return values;
}
inline void StorePart(float* to, int64_t count, Lanes values) { std::memcpy(to, &values, count * sizeof(float)); }
inline Lanes FirstOf(Lanes values, int64_t count) {
  for (int64_t i = count; i < kLanes; i++) values[i] = 0;
  return values;
}
#endif

// a · b + c, rounded once.
inline Lanes Fma(Lanes a, Lanes b, Lanes c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX__) && defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  // Without the instruction: the product is exact in float64; the sum is rounded to odd there, after which rounding to
  // float32 is as if there had been but one rounding (Boldo and Melquiond 2008). Some thirty times as slow.
  typedef double Doubles __attribute__((vector_size(kLanes * sizeof(double))));
  typedef int64_t Longs __attribute__((vector_size(kLanes * sizeof(double))));
  const Doubles product = __builtin_convertvector(a, Doubles) * __builtin_convertvector(b, Doubles),
                addend = __builtin_convertvector(c, Doubles), sum = product + addend;
  const Doubles back = sum - product, error = (product - (sum - back)) + (addend - back);  // Knuth's two-sum
  const Longs even = ((Longs)sum & 1) - 1, inexact = (Longs)(error < 0.0) | (Longs)(error > 0.0);
  const Longs away = ((Longs)(error > 0.0) ^ (Longs)(sum > 0.0)) | 1;  // the bits' next value towards the exact sum
  return __builtin_convertvector((Doubles)((Longs)sum + (even & inexact & away)), Lanes);
#endif
}
inline Lanes Fma(float a, Lanes b, Lanes c) { return Fma(Broadcast(a), b, c); }
inline Lanes Fma(Lanes a, Lanes b, float c) { return Fma(a, b, Broadcast(c)); }
inline Lanes Fma(Lanes a, float b, float c) { return Fma(a, Broadcast(b), Broadcast(c)); }

inline Lanes SquareRoot(Lanes values) {
#if defined(__AVX512F__)
  return _mm512_sqrt_ps(values);
#elif defined(__AVX__)
  return _mm256_sqrt_ps(values);
#elif defined(__x86_64__)
  return _mm_sqrt_ps(values);
#elif defined(__aarch64__)
  return vsqrtq_f32(values);
#else
  for (int64_t i = 0; i < kLanes; i++) values[i] = __builtin_sqrtf(values[i]);
  return values;
#endif
}

inline float SquareRoot(float value) { return SquareRoot(Broadcast(value))[0]; }

// Where a vector stands in a row: all of it, or, at the row's end, its first `count` lanes.
struct Whole {
  int64_t at;
  Lanes From(const float* row) const { return Load(row + at); }
  void To(float* row, Lanes values) const { Store(row + at, values); }
  Lanes Of(Lanes values) const { return values; }
};
struct Part {
  int64_t at, count;
  Lanes From(const float* row) const { return LoadPart(row + at, count); }
  void To(float* row, Lanes values) const { StorePart(row + at, count, values); }
  // Zero beyond the row's end, as what From reads.
  Lanes Of(Lanes values) const { return FirstOf(values, count); }
};

// f(vector) for the vectors of a row of `width` values.
template <typename F>
[[gnu::always_inline]] inline void ForVectors(int64_t width, F f) {
  int64_t at = 0;
  for (; at + kLanes <= width; at += kLanes) f(Whole{at});
  if (at < width) f(Part{at, width - at});
}

// A sum along a row has sixteen lanes, in one register or in several, each of which adds every sixteenth value; then
// halves are added to halves. So its order is the same on all processors.
constexpr int64_t kSumLanes = 16;
constexpr int kSumVectors = kSumLanes / kLanes;

struct RowSum {
  Lanes parts[kSumVectors] = {};

  float Total() const {
    Lanes sum = parts[0];
    if constexpr (kSumVectors == 2) sum = parts[0] + parts[1];
    if constexpr (kSumVectors == 4) sum = (parts[0] + parts[2]) + (parts[1] + parts[3]);
    return Halve<kLanes>(sum);
  }

 private:
  template <int64_t lanes>
  static float Halve(Lanes sum) {
    if constexpr (lanes == 16) {
#if defined(__AVX512F__)
      const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(sum),
                                        _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sum), 1)));
      return Halve256(half);
#endif
    } else if constexpr (lanes == 8) {
#if defined(__AVX__) && !defined(__AVX512F__)
      return Halve256(sum);
#endif
    } else {
      return (sum[0] + sum[2]) + (sum[1] + sum[3]);
    }
  }
#if defined(__AVX__)
  static float Halve256(__m256 sum) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
    return (four[0] + four[2]) + (four[1] + four[3]);
  }
#endif
};

template <int... i, typename F>
[[gnu::always_inline]] inline void Unrolled(std::integer_sequence<int, i...>, F f) {
  (f(std::integral_constant<int, i>()), ...);
}

// f(vector, i): the same, with the place i of the vector in a RowSum, a compile-time constant.
template <typename F>
[[gnu::always_inline]] inline void ForSummed(int64_t width, F f) {
  constexpr std::make_integer_sequence<int, kSumVectors> all;
  int64_t at = 0;
  for (; at + kSumLanes <= width; at += kSumLanes) Unrolled(all, [&](auto i) { f(Whole{at + i * kLanes}, i); });
  Unrolled(all, [&](auto i) {
    const int64_t begin = at + i * kLanes;
    if (begin + kLanes <= width)
      f(Whole{begin}, i);
    else if (begin < width)
      f(Part{begin, width - begin}, i);
  });
}

// eˣ for x ≤ 0, to 2 ulp, and 0 below −87. x = n · ln 2 + r with |r| ≤ ln 2 / 2, and eʳ by its series.
inline Lanes Exp(Lanes x) {
  constexpr float magic = 12582912.0f;  // 1.5 · 2²³: adding it rounds to an integer, which stands in the last bits
  const Lanes shifted = Fma(x, 1.44269504f, magic);
  const Lanes n = shifted - magic;
  const Lanes r = Fma(n, Broadcast(2.12194440e-4f), Fma(n, Broadcast(-0.693359375f), x));
  Lanes power = Fma(r, 1.0f / 720, 1.0f / 120);
  power = Fma(power, r, 1.0f / 24);
  power = Fma(power, r, 1.0f / 6);
  power = Fma(power, r, 0.5f);
  power = Fma(power, r, 1.0f);
  power = Fma(power, r, 1.0f);
  const Lanes result = (Lanes)((BitLanes)power + (((BitLanes)shifted) << 23));
  return x < -87.0f ? Lanes{} : result;
}

// The same, and NaN of NaN.
inline Lanes Power(Lanes x) { return x == x ? Exp(x) : x; }

// ln x, to 1 ulp, after Moshier's Cephes: x = 2ᵉ · m with √½ ≤ m < √2, and the series of ln m around 1.
inline Lanes Log(Lanes x) {
  const BitLanes shifted = (BitLanes)x - 0x3f3504f3u;  // √½
  const Lanes e = __builtin_convertvector((IntLanes)shifted >> 23, Lanes);
  const Lanes m = (Lanes)((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f, square = m * m;
  Lanes series = Fma(m, 7.0376836292e-2f, -1.1514610310e-1f);
  series = Fma(series, m, 1.1676998740e-1f);
  series = Fma(series, m, -1.2420140846e-1f);
  series = Fma(series, m, 1.4249322787e-1f);
  series = Fma(series, m, -1.6668057665e-1f);
  series = Fma(series, m, 2.0000714765e-1f);
  series = Fma(series, m, -2.4999993993e-1f);
  series = Fma(series, m, 3.3333331174e-1f);
  const Lanes rest = Fma(e, Broadcast(-2.12194440e-4f), series * m * square);
  const Lanes result = Fma(e, Broadcast(0.693359375f), m + Fma(square, Broadcast(-0.5f), rest));
  const Lanes infinity = Broadcast(__builtin_inff()), nan = Broadcast(__builtin_nanf(""));
  const Lanes special = x == 0.0f ? -infinity : x < 0.0f ? nan : x;  // 0, negative, ∞ and NaN
  return x >= 1.17549435e-38f ? (x < infinity ? result : special) : special;
}

// The largest of a row's values, of which there is at least one.
inline float Largest(const float* row, int64_t width) {
  Lanes lanes = Broadcast(row[0]);
  int64_t at = 0;
  for (; at + kLanes <= width; at += kLanes) {
    const Lanes values = Load(row + at);
    lanes = lanes < values ? values : lanes;
  }
  float largest = row[0];
  for (int64_t i = 0; i < kLanes; i++) largest = lanes[i] > largest ? lanes[i] : largest;
  for (; at < width; at++) largest = row[at] > largest ? row[at] : largest;
  return largest;
}

// GELU's parts: Φ(x), the normal distribution, and φ(x), its density, from one exponential. 1 − Φ(z) = e^(−z²/2) · P(s)
// with s = (z − k) / (z + k), after Shepherd and Laframboise (1981); P fitted here, right to 3e-9.
struct Normal {
  Lanes distribution, density;
  explicit Normal(Lanes x) {
    constexpr float k = 3.8f;
    const Lanes far = x < 0.0f ? -x : x,
                z = far > 14.0f ? Broadcast(14.0f) : far;  // where e^(−z²/2) is below 1e-38, and Exp gives 0
    const Lanes e = Exp((-0.5f * z) * z);
    const Lanes s = (z - k) / (z + k);
    Lanes tail = Fma(s, -0.002402888610959053f, -0.007955560460686684f);
    tail = Fma(tail, s, 0.024667808786034584f);
    tail = Fma(tail, s, -0.06894689798355103f);
    tail = Fma(tail, s, 0.12514744699001312f);
    tail = Fma(tail, s, -0.17682324349880219f);
    tail = Fma(tail, s, 0.098861925303936f);
    tail *= e;
    distribution = x < 0.0f ? tail : 1.0f - tail;
    density = 0.39894228040143268f * e;
  }
};

}  // namespace lab
