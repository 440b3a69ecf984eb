// Signals wait while TensorFlow computes.
#pragma once

#include <csignal>

namespace lab {

// Holds back the signals that come from outside, in this thread and in threads that it makes meanwhile. A handler that
// runs on top of some of oneDNN's GEMMs (TensorFlow 2.19, AVX-512) breaks the heap: Ctrl-C, or a terminal that
// changes its size, would end a training by an abort. A held signal arrives when the computation ends, or at once in
// another thread.
class SignalsHeld {
 public:
  SignalsHeld() {
    sigset_t held;
    sigfillset(&held);
    for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) sigdelset(&held, fault);
    pthread_sigmask(SIG_BLOCK, &held, &before_);
  }
  ~SignalsHeld() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsHeld(const SignalsHeld&) = delete;
  void operator=(const SignalsHeld&) = delete;

 private:
  sigset_t before_;
};

}  // namespace lab
