// Which instructions this process may use, by CPUID as the process itself sees it: hypervisors and masks hide some that
// /proc/cpuinfo names, and a processor's name says little. Built for any processor of its kind, as it decides what else
// may be loaded.
#include <node_api.h>

#include <string>

namespace {

std::string Features() {
  std::string features;
#if defined(__x86_64__)
  __builtin_cpu_init();
#define LAB_FEATURE(name) \
  if (__builtin_cpu_supports(name)) features += std::string(name) + " "
  LAB_FEATURE("avx");
  LAB_FEATURE("avx2");
  LAB_FEATURE("fma");
  LAB_FEATURE("avx512f");
  LAB_FEATURE("avx512bw");
  LAB_FEATURE("avx512cd");
  LAB_FEATURE("avx512dq");
  LAB_FEATURE("avx512vl");
  LAB_FEATURE("avx512vnni");
#elif defined(__aarch64__)
  features = "neon";  // part of every one
#endif
  return features;
}

}  // namespace

NAPI_MODULE_INIT() {
  const std::string features = Features();
  napi_value text;
  napi_create_string_utf8(env, features.data(), features.size(), &text);
  napi_set_named_property(env, exports, "features", text);
  return exports;
}
