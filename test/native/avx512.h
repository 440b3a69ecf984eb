// AVX-512 for a processor with AVX2 alone: the kernels' code for sixteen lanes (lanes.h, tile.h), each of its instructions by two of AVX2, which
// are IEEE's like them. harness.ts includes it before everything else, so that this code runs where no AVX-512 is.
#pragma once

#include <immintrin.h>

#define __AVX512F__ 1

typedef float Sixteen __attribute__((vector_size(64)));
typedef float SixteenInMemory __attribute__((vector_size(64), aligned(4), may_alias));
struct Halves {
  __m256 low, high;
};

inline Halves HalvesOf(Sixteen values) {
  Halves halves;
  __builtin_memcpy(&halves, &values, sizeof values);
  return halves;
}
inline Sixteen Joined(__m256 low, __m256 high) {
  const Halves halves{low, high};
  Sixteen values;
  __builtin_memcpy(&values, &halves, sizeof values);
  return values;
}

inline Sixteen EmulatedFma(Sixteen a, Sixteen b, Sixteen c) {
  const Halves x = HalvesOf(a), y = HalvesOf(b), z = HalvesOf(c);
  return Joined(_mm256_fmadd_ps(x.low, y.low, z.low), _mm256_fmadd_ps(x.high, y.high, z.high));
}
inline Sixteen EmulatedSquareRoot(Sixteen values) {
  const Halves x = HalvesOf(values);
  return Joined(_mm256_sqrt_ps(x.low), _mm256_sqrt_ps(x.high));
}
inline void EmulatedStream(float* to, Sixteen values) { *reinterpret_cast<SixteenInMemory*>(to) = values; }
inline Sixteen EmulatedLoad(unsigned mask, const float* from) {
  Sixteen values{};
  for (int i = 0; i < 16; i++)
    if (mask >> i & 1) values[i] = from[i];
  return values;
}
inline void EmulatedStore(float* to, unsigned mask, Sixteen values) {
  for (int i = 0; i < 16; i++)
    if (mask >> i & 1) to[i] = values[i];
}
inline Sixteen EmulatedMove(unsigned mask, Sixteen values) {
  for (int i = 0; i < 16; i++)
    if (!(mask >> i & 1)) values[i] = 0;
  return values;
}

#define _mm512_fmadd_ps EmulatedFma
#define _mm512_sqrt_ps EmulatedSquareRoot
#define _mm512_stream_ps EmulatedStream
#define _mm512_maskz_loadu_ps EmulatedLoad
#define _mm512_mask_storeu_ps EmulatedStore
#define _mm512_maskz_mov_ps EmulatedMove
#define _mm512_castps_pd(values) values
#define _mm512_castps512_ps256(values) HalvesOf(values).low
#define _mm512_extractf64x4_pd(values, half) _mm256_castps_pd(HalvesOf(values).high)
