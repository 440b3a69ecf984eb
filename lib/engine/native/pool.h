// Threads that wait for work without sleeping, for a moment. TensorFlow's own pool puts its threads to sleep between
// two operations, and waking one takes longer (50–100 µs in a virtual machine) than most operations of inference do.
#pragma once

#include <cstdint>
#include <functional>

namespace lab {

// f(task) for each task of [0, tasks), on the calling thread and on `threads` − 1 others (at most 15); returns when all
// are done. False, with nothing done, while somebody else uses those threads.
bool RunOnSpinningThreads(int threads, int64_t tasks, const std::function<void(int64_t)>& f);

}  // namespace lab
