// Switching stacks: six registers on x86-64, the C library's contexts elsewhere; and what the
// sanitizers have to be told about it.
#include "fiber.hpp"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if FAKE_ASAN
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/asan_interface.h>
#endif
#if FAKE_TSAN
#include "races.hpp"
#endif

namespace fake {

static constexpr size_t PAGE = 4096;
// Sanitized code keeps red zones and shadows on its stack.
static constexpr size_t STACK = (FAKE_ASAN || FAKE_TSAN) ? 256 * 1024 : 64 * 1024;

#if defined(__x86_64__)
extern "C" void fake_switch(void** save, void* to);
asm(R"(
.text
.type fake_switch, @function
fake_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size fake_switch, .-fake_switch
)");
#endif

void fiber_allocate(Fiber& fiber) {
    void* map = mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED || mprotect(map, PAGE, PROT_NONE) != 0) {
        fputs("fake cuda: no memory for the stacks of a block\n", stderr);
        abort();
    }
    fiber.stack = static_cast<char*>(map) + PAGE;
    fiber.stack_bytes = STACK;
#if !defined(__x86_64__)
    fiber.context = new ucontext_t;
#endif
}

void fiber_free(Fiber& fiber) {
#if FAKE_TSAN
    if (fiber.tsan) __tsan_destroy_fiber(fiber.tsan);
#endif
#if !defined(__x86_64__)
    delete static_cast<ucontext_t*>(fiber.context);
#endif
    if (fiber.stack) munmap(fiber.stack - PAGE, fiber.stack_bytes + PAGE);
    fiber = Fiber{};
}

// A thread that was given up in the middle leaves an unfinished history: it gets a new identity,
// and with it a new stack, since each byte of a stack belongs to one identity.
static void renew(Fiber& fiber) {
#if FAKE_TSAN
    if (fiber.tsan && !fiber.running) return;
    // The old one is left alone: it would be an error to end it in the middle of a call.
    fiber.tsan = __tsan_create_fiber(0);
    races_new_memory(fiber.stack, fiber.stack_bytes);
#endif
    fiber.running = false;
}

void fiber_ended(Fiber& fiber) { fiber.running = false; }

void fiber_prepare(Fiber& fiber, void (*entry)()) {
    renew(fiber);
#if FAKE_ASAN
    // A thread that was given up in the middle of a function left its red zones behind.
    __asan_unpoison_memory_region(fiber.stack, fiber.stack_bytes);
#endif
#if defined(__x86_64__)
    uintptr_t* top = reinterpret_cast<uintptr_t*>(fiber.stack + fiber.stack_bytes);
    *--top = 0;  // the return address of the entry function, which does not return
    *--top = reinterpret_cast<uintptr_t>(entry);
    for (int i = 0; i < 6; ++i) *--top = 0;
    fiber.stack_pointer = top;
#else
    ucontext_t* context = static_cast<ucontext_t*>(fiber.context);
    getcontext(context);
    context->uc_stack.ss_sp = fiber.stack;
    context->uc_stack.ss_size = fiber.stack_bytes;
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
#endif
}

static thread_local Fiber* came_from = nullptr;
static thread_local Fiber* running = nullptr;

static void arrived(Fiber* self) {
#if FAKE_ASAN
    const void* bottom = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(self->asan_stack, &bottom, &bytes);
    if (came_from->stack == nullptr) {
        came_from->stack = const_cast<char*>(static_cast<const char*>(bottom));
        came_from->stack_bytes = bytes;
    }
#endif
    running = self;
}

void fiber_entered() {
    Fiber* self = running;
    self->running = true;
    arrived(self);
}

void fiber_adopt(Fiber& host) {
#if FAKE_TSAN
    host.tsan = __tsan_get_current_fiber();
#endif
    // Learned at the first switch away from it; the last launch may have been on another thread.
    host.stack = nullptr;
    host.stack_bytes = 0;
}

void fiber_switch(Fiber& from, Fiber& to, bool last) {
    came_from = &from;
    running = &to;
#if FAKE_ASAN
    __sanitizer_start_switch_fiber(last ? nullptr : &from.asan_stack, to.stack, to.stack_bytes);
#else
    (void)last;
#endif
#if FAKE_TSAN
    // 1: the switch itself orders nothing; the engine says what does.
    __tsan_switch_to_fiber(to.tsan, 1);
#endif
#if defined(__x86_64__)
    fake_switch(&from.stack_pointer, to.stack_pointer);
#else
    ucontext_t here;
    if (!from.context) from.context = &here;
    swapcontext(static_cast<ucontext_t*>(from.context), static_cast<ucontext_t*>(to.context));
    if (from.context == &here) from.context = nullptr;
#endif
    arrived(&from);
}

}  // namespace fake
