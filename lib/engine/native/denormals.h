// One rule for numbers below the smallest normal one, 1.2e-38: read as zero and written as zero, on every thread that
// computes. TensorFlow sets its own threads so, and neither Node's nor ours; a result must not hang on which of them
// computed it. Arm decides before rounding whether a result is that small, x86 after: the two differ only for results
// less than 7e-46 below that number.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace lab {

class DenormalsFlushed {
 public:
  DenormalsFlushed() : before_(Get()) {
    if ((before_ & kFlush) != kFlush) Set(before_ | kFlush);
  }
  ~DenormalsFlushed() {
    if ((before_ & kFlush) != kFlush) Set(before_);
  }
  DenormalsFlushed(const DenormalsFlushed&) = delete;
  void operator=(const DenormalsFlushed&) = delete;

 private:
#if defined(__x86_64__)
  using Word = unsigned;
  static constexpr Word kFlush = 0x8040;  // MXCSR's flush to zero, and denormals are zeros
  static Word Get() { return _mm_getcsr(); }
  static void Set(Word word) { _mm_setcsr(word); }
#elif defined(__aarch64__)
  using Word = uint64_t;
  static constexpr Word kFlush = 1 << 24;  // FPCR's flush to zero
  static Word Get() {
    Word word;
    asm volatile("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static void Set(Word word) { asm volatile("msr fpcr, %0" ::"r"(word)); }
#else
  using Word = int;
  static constexpr Word kFlush = 0;
  static Word Get() { return 0; }
  static void Set(Word) {}
#endif
  const Word before_;
};

}  // namespace lab
