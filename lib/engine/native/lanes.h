// A vector of the widest registers that the compiler was told of, and functions on it: without libm, which would
// compute them one by one, and not alike on every system.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace lab {

#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
#elif defined(__AVX__)
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 4;
#endif
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float)), aligned(4)));
typedef int32_t IntLanes __attribute__((vector_size(kLanes * sizeof(float)), aligned(4)));

inline Lanes Load(const float* from) { return *reinterpret_cast<const Lanes*>(from); }
inline void Store(float* to, Lanes values) { *reinterpret_cast<Lanes*>(to) = values; }

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

inline Lanes Broadcast(float value) { return value - Lanes{}; }

// The first `count` lanes, the others zero.
inline Lanes LoadPart(const float* from, int64_t count) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
#else
  Lanes values{};
  std::memcpy(&values, from, count * sizeof(float));
  return values;
#endif
}

inline void StorePart(float* to, int64_t count, Lanes values) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), values);
#else
  std::memcpy(to, &values, count * sizeof(float));
#endif
}

// Where a vector stands in a row: all of it, or, at the row's end, its first `count` lanes.
struct Whole {
  int64_t at;
  Lanes From(const float* row) const { return Load(row + at); }
  void To(float* row, Lanes values) const { Store(row + at, values); }
  Lanes Of(float value) const { return Broadcast(value); }
};
struct Part {
  int64_t at, count;
  Lanes From(const float* row) const { return LoadPart(row + at, count); }
  void To(float* row, Lanes values) const { StorePart(row + at, count, values); }
  // Zero beyond the row's end, as what From reads.
  Lanes Of(float value) const {
#if defined(__AVX512F__)
    return _mm512_maskz_mov_ps(static_cast<__mmask16>((1u << count) - 1), _mm512_set1_ps(value));
#else
    Lanes values{};
    for (int64_t i = 0; i < count; i++) values[i] = value;
    return values;
#endif
  }
};

// f(vector) for the vectors of a row of `width` values.
template <typename F>
[[gnu::always_inline]] inline void ForVectors(int64_t width, F f) {
  int64_t at = 0;
  for (; at + kLanes <= width; at += kLanes) f(Whole{at});
  if (at < width) f(Part{at, width - at});
}

// The sum of all lanes, in pairs.
inline float Sum(Lanes values) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(values);
#else
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; i++) values[i] += values[i + half];
  }
  return values[0];
#endif
}

inline Lanes SquareRoot(Lanes values) {
#if defined(__AVX512F__)
  return _mm512_sqrt_ps(values);
#else
  for (int64_t i = 0; i < kLanes; i++) values[i] = __builtin_sqrtf(values[i]);
  return values;
#endif
}

// eˣ for −87 ≤ x ≤ 0, to 2 ulp. x = n · ln 2 + r with |r| ≤ ln 2 / 2, and eʳ by its series.
inline Lanes Exp(Lanes x) {
  const Lanes magic =
      Broadcast(12582912.0f);  // 1.5 · 2²³: adding it rounds to an integer, which stands in the last bits
  const Lanes shifted = x * 1.44269504f + magic;
  const Lanes n = shifted - magic;
  const Lanes r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Lanes power = 1.0f / 720 * r + 1.0f / 120;
  power = power * r + 1.0f / 24;
  power = power * r + 1.0f / 6;
  power = power * r + 0.5f;
  power = power * r + 1.0f;
  power = power * r + 1.0f;
  return (Lanes)((IntLanes)power + (((IntLanes)shifted) << 23));
}

// GELU's parts: Φ(x), the normal distribution, and φ(x), its density, from one exponential. 1 − Φ(z) = e^(−z²/2) · P(s)
// with s = (z − k) / (z + k), after Shepherd and Laframboise (1981); P fitted here, right to 3e-9.
struct Normal {
  Lanes distribution, density;
  explicit Normal(Lanes x) {
    constexpr float k = 3.8f;
    const Lanes far = x < 0.0f ? -x : x, z = far > 13.0f ? Broadcast(13.0f) : far;  // beyond, e^(−z²/2) is below 2e-37
    const Lanes e = Exp(-0.5f * z * z);
    const Lanes s = (z - k) / (z + k);
    Lanes tail = -0.002402888610959053f * s - 0.007955560460686684f;
    tail = tail * s + 0.024667808786034584f;
    tail = tail * s - 0.06894689798355103f;
    tail = tail * s + 0.12514744699001312f;
    tail = tail * s - 0.17682324349880219f;
    tail = tail * s + 0.098861925303936f;
    tail *= e;
    distribution = x < 0.0f ? tail : 1.0f - tail;
    density = 0.39894228040143268f * e;
  }
};

}  // namespace lab
