// Preloaded into a process (LD_PRELOAD), shows it a lesser processor: AVX-512, VNNI, BF16 and AMX vanish from CPUID, or,
// with MASK=vnni, all of these but AVX-512. TensorFlow, oneDNN and the lab then choose what they choose on a Haswell or a
// Zen 3, or on a Skylake-X. The instructions themselves still work.
//
// Linux lets a process forbid itself CPUID (arch_prctl ARCH_CPUID), where the processor or the hypervisor has CPUID
// faulting: the instruction then raises SIGSEGV, and the handler answers in its place. Where there is none, a line says so
// and the process ends with 97.
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ARCH_CPUID = 0x1012, NO_FAULTING = 97 };
#define BIT(n) (1u << (n))

static int only_vnni;
static int (*real_sigaction)(int, const struct sigaction*, struct sigaction*);

// Not through libc's wrapper, which sets errno, a variable of the thread that was interrupted.
static long allow_cpuid(long allowed) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"((long)SYS_arch_prctl), "D"((long)ARCH_CPUID), "S"(allowed) : "rcx", "r11", "memory");
  return result;
}

// Leaf 7 by the Intel manual (volume 2, CPUID) and AMD's (volume 3, appendix E): what is hidden of each register.
static void hide(uint32_t leaf, uint32_t subleaf, uint32_t* eax, uint32_t* ebx, uint32_t* ecx, uint32_t* edx) {
  if (leaf != 7) return;
  if (subleaf == 0) {
    *ecx &= ~BIT(11);                                 // AVX512_VNNI
    *edx &= ~(BIT(22) | BIT(23) | BIT(24) | BIT(25));  // AMX_BF16, AVX512_FP16, AMX_TILE, AMX_INT8
    if (only_vnni) return;
    *ebx &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));  // F DQ IFMA PF ER CD BW VL
    *ecx &= ~(BIT(1) | BIT(6) | BIT(12) | BIT(14));                                            // VBMI VBMI2 BITALG VPOPCNTDQ
    *edx &= ~(BIT(2) | BIT(3) | BIT(8));                                                       // 4VNNIW 4FMAPS VP2INTERSECT
  } else if (subleaf == 1) {
    *eax &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23));            // AVX_VNNI, AVX512_BF16, AMX_FP16, AVX_IFMA
    *edx &= ~(BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19));  // AVX_VNNI_INT8, AVX_NE_CONVERT, AMX_COMPLEX, AVX_VNNI_INT16, AVX10
  }
}

static void answer(int signal, siginfo_t* info, void* context) {
  (void)info;
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  static const uint8_t kCpuid[] = {0x0f, 0xa2};
  if (memcmp((const void*)registers[REG_RIP], kCpuid, sizeof kCpuid) != 0) {
    // A real fault: it happens again when this returns, and ends the process as it would have.
    struct sigaction original;
    memset(&original, 0, sizeof original);
    original.sa_handler = SIG_DFL;
    real_sigaction(signal, &original, NULL);
    return;
  }
  const uint32_t leaf = (uint32_t)registers[REG_RAX], subleaf = (uint32_t)registers[REG_RCX];
  uint32_t eax, ebx, ecx, edx;
  allow_cpuid(1);
  __cpuid_count(leaf, subleaf, eax, ebx, ecx, edx);
  allow_cpuid(0);
  hide(leaf, subleaf, &eax, &ebx, &ecx, &edx);
  registers[REG_RAX] = eax;
  registers[REG_RBX] = ebx;
  registers[REG_RCX] = ecx;
  registers[REG_RDX] = edx;
  registers[REG_RIP] += sizeof kCpuid;
}

static void find_sigaction(void) {
  if (!real_sigaction) *(void**)&real_sigaction = dlsym(RTLD_NEXT, "sigaction");
}

static int masking;

// Node sets all signals to their defaults when it starts, and V8 takes SIGSEGV for its own: this one stays ours.
int sigaction(int signal, const struct sigaction* action, struct sigaction* before) {
  find_sigaction();
  return real_sigaction(signal, masking && signal == SIGSEGV ? NULL : action, before);
}

sighandler_t signal(int number, sighandler_t handler) {
  struct sigaction action, before;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  return sigaction(number, &action, &before) == 0 ? before.sa_handler : SIG_ERR;
}

__attribute__((constructor)) static void start(void) {
  const char* mask = getenv("MASK");
  only_vnni = mask && strcmp(mask, "vnni") == 0;
  find_sigaction();
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = answer;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  real_sigaction(SIGSEGV, &action, NULL);
  masking = 1;
  if (allow_cpuid(0) != 0) {
    static const char kLine[] = "mask: this system has no CPUID faulting\n";
    if (write(STDERR_FILENO, kLine, sizeof kLine - 1) < 0) _exit(NO_FAULTING + 1);
    _exit(NO_FAULTING);
  }
}
