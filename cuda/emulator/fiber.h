/* Fibers: many threads of control on one thread of the operating system.
 *
 * A fiber is a stack and the place where it stopped. To switch from one to another, save on the
 * old stack the registers that a C function must preserve, exchange the stack pointer, and restore
 * those of the new stack: a dozen instructions and no system call. That is why a CUDA block of 1024
 * threads is no burden here, and would be one as 1024 threads of the operating system.
 *
 * Three versions: x86-64, aarch64, and POSIX ucontext for every other processor, which asks the
 * system for the signal mask at each switch and is some fifteen times slower. -DFIBER_PORTABLE
 * forces it. (.weak: each file that includes this has the same text, and the linker keeps one.)
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && !defined(FIBER_PORTABLE)

struct Fiber { void* stack_pointer; };
extern "C" void fiber_exchange(void** save, void* load);
asm(R"(
.text
.weak fiber_exchange
.hidden fiber_exchange
.type fiber_exchange, @function
fiber_exchange:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size fiber_exchange, .-fiber_exchange
)");

/* What the first switch finds: six registers, the address to return to, and a return address of
 * zero above it, where a debugger stops walking. The ABI wants (sp + 8) % 16 == 0 in `body`. */
inline void fiber_start(Fiber& fiber, char* top, size_t, void (*body)()) {
    void** frame = (void**)top - 8;
    memset(frame, 0, 8 * sizeof(void*));
    frame[6] = (void*)body;
    fiber.stack_pointer = frame;
}

#elif defined(__aarch64__) && !defined(FIBER_PORTABLE)

struct Fiber { void* stack_pointer; };
extern "C" void fiber_exchange(void** save, void* load);
asm(R"(
.text
.weak fiber_exchange
.hidden fiber_exchange
.type fiber_exchange, %function
fiber_exchange:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size fiber_exchange, .-fiber_exchange
)");

/* What the first switch finds: twenty registers, of which x30 is the address to return to. */
inline void fiber_start(Fiber& fiber, char* top, size_t, void (*body)()) {
    void** frame = (void**)top - 20;
    memset(frame, 0, 20 * sizeof(void*));
    frame[11] = (void*)body;
    fiber.stack_pointer = frame;
}

#else

#include <ucontext.h>
struct Fiber { ucontext_t context; };

inline void fiber_start(Fiber& fiber, char* top, size_t bytes, void (*body)()) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = top - bytes;
    fiber.context.uc_stack.ss_size = bytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, body, 0);
}
inline void fiber_switch(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }
#define FIBER_SWITCH_DEFINED

#endif

#ifndef FIBER_SWITCH_DEFINED
inline void fiber_switch(Fiber& from, Fiber& to) {
    fiber_exchange(&from.stack_pointer, to.stack_pointer);
}
#endif
