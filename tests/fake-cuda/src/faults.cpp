// A kernel that touches memory which is nobody's ends its launch, not the process: the signal is
// turned into a report on the thread that caused it. The sanitizers have handlers of their own.
#include "faults.hpp"

#if FAKE_ASAN || FAKE_TSAN || !defined(__x86_64__)
namespace fake {
void catch_faults() {}
}  // namespace fake
#else

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <mutex>

namespace fake {

static struct sigaction before[2];  // SIGSEGV, SIGBUS
static thread_local void* fault_address = nullptr;
static thread_local bool is_overflow = false;

// Runs on the stack of the thread at fault, in place of what it was doing.
static void faulted() {
    Block& self = block();
    char text[128];
    if (is_overflow) snprintf(text, sizeof text, "the stack of a thread overflows");
    else snprintf(text, sizeof text, "illegal access to address %p", fault_address);
    const Site last = self.current->site;
    const bool known = last.line != 0;
    self.fail(std::string(text) + (known ? "; last seen where the report says" : ""), last);
}

static void handler(int signal, siginfo_t* info, void* raw) {
    Block* self = running_block();
    if (!self || !self->current || !self->current->fiber.running || !place) {
        // Not a kernel's: as if we were not here.
        sigaction(signal, &before[signal == SIGBUS], nullptr);
        return;
    }
    const Fiber& fiber = self->current->fiber;
    const char* at = static_cast<char*>(info->si_addr);
    fault_address = info->si_addr;
    is_overflow = at < fiber.stack && at >= fiber.stack - 4096;
    // The signal returns into `faulted`, at the top of the stack: what lay there is given up.
    auto* context = static_cast<ucontext_t*>(raw);
    u64 top = reinterpret_cast<u64>(fiber.stack + fiber.stack_bytes) - 256;
    context->uc_mcontext.gregs[REG_RSP] = (long long)(top / 16 * 16 - 8);
    context->uc_mcontext.gregs[REG_RIP] = (long long)reinterpret_cast<u64>(&faulted);
}

// A signal needs a stack, and a kernel's may be full.
static void give_signal_stack() {
    static thread_local bool given = false;
    if (given) return;
    given = true;
    stack_t now;
    if (sigaltstack(nullptr, &now) != 0 || !(now.ss_flags & SS_DISABLE)) return;
    constexpr size_t BYTES = 64 * 1024;
    void* room = mmap(nullptr, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) return;
    stack_t ours;
    memset(&ours, 0, sizeof ours);
    ours.ss_sp = room;
    ours.ss_size = BYTES;
    sigaltstack(&ours, nullptr);
}

void catch_faults() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction ours;
        memset(&ours, 0, sizeof ours);
        ours.sa_sigaction = handler;
        ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigaction(SIGSEGV, &ours, &before[0]);
        sigaction(SIGBUS, &ours, &before[1]);
    });
    give_signal_stack();
}

}  // namespace fake
#endif
