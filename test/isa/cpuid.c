// Prints, by CPUID as this process sees it, which of the features that the masks hide are there.
#include <cpuid.h>
#include <stdio.h>

int main(void) {
  unsigned a, b, c, d, a1 = 0, rest;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
  if (a >= 1) __get_cpuid_count(7, 1, &a1, &rest, &rest, &rest);
  if (b >> 16 & 1) puts("avx512f");
  if (c >> 11 & 1) puts("avx512_vnni");
  if (a1 >> 4 & 1) puts("avx_vnni");
  if (a1 >> 5 & 1) puts("avx512_bf16");
  if (d >> 22 & 1) puts("amx_bf16");
  if (d >> 24 & 1) puts("amx_tile");
  if (d >> 25 & 1) puts("amx_int8");
  return 0;
}
