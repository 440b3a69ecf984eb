#include "pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "denormals.h"

namespace lab {
namespace {

inline void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Until `done`, or for as long as `patience` allows. Gives the processor to whoever else wants it.
template <typename F>
bool SpinUntil(F done, std::chrono::microseconds patience) {
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 64; i++) {
      if (done()) return true;
      Relax();
    }
    sched_yield();
  } while (std::chrono::steady_clock::now() - start < patience);
  return done();
}

class Pool {
 public:
  explicit Pool(int workers) {
    for (int i = 0; i < workers; i++) std::thread([this] { Work(); }).detach();
  }

  bool Run(int64_t tasks, const std::function<void(int64_t)>& f) {
    if (busy_.exchange(true)) return false;
    job_ = &f;
    finished_ = 0;
    ticket_ = static_cast<uint64_t>(tasks) << kBits;
    if (sleeping_ > 0) {
      const std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
    while (RunOne()) {
    }
    while (!SpinUntil([&] { return finished_ == tasks; }, std::chrono::microseconds(1000))) {
    }
    busy_ = false;
    return true;
  }

 private:
  static constexpr int kBits = 32;
  static constexpr std::chrono::microseconds kPatience{100};

  std::atomic<bool> busy_{false};
  const std::function<void(int64_t)>* job_ = nullptr;
  // How many tasks there are (upper half) and the next of them (lower half), in one word: who takes a task knows by the
  // same step whether there was one, and as long as it is not finished the job stays what it is.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int64_t> finished_{0};
  std::atomic<int> sleeping_{0};
  std::mutex mutex_;
  std::condition_variable wake_;

  static bool IsOpen(uint64_t ticket) { return (ticket & UINT32_MAX) < ticket >> kBits; }

  bool RunOne() {
    uint64_t ticket = ticket_;
    while (IsOpen(ticket)) {
      if (!ticket_.compare_exchange_weak(ticket, ticket + 1)) continue;
      (*job_)(ticket& UINT32_MAX);
      finished_++;
      return true;
    }
    return false;
  }

  void Work() {
    const DenormalsFlushed flushed;
    while (true) {
      if (RunOne() || SpinUntil([&] { return IsOpen(ticket_); }, kPatience)) continue;
      std::unique_lock<std::mutex> lock(mutex_);
      sleeping_++;
      wake_.wait(lock, [&] { return IsOpen(ticket_); });
      sleeping_--;
    }
  }
};

// Never destroyed: their threads run until the process ends.
Pool& PoolOf(int threads) {
  static std::mutex mutex;
  static auto* const pools = new std::map<int, std::unique_ptr<Pool>>;
  const std::lock_guard<std::mutex> lock(mutex);
  auto& pool = (*pools)[threads];
  if (!pool) pool = std::make_unique<Pool>(threads - 1);
  return *pool;
}

}  // namespace

// Work is divided into a dozen parts or so: more threads would spin for nothing.
constexpr int kMostThreads = 16;

bool RunOnSpinningThreads(int threads, int64_t tasks, const std::function<void(int64_t)>& f) {
  return PoolOf(std::min(threads, kMostThreads)).Run(tasks, f);
}

}  // namespace lab
