/* The scheduler of the emulator: blocks over the cores, threads of a block as fibers.
 *
 * A thread runs until it waits: at a barrier, in a shuffle, at its end. Then the next one that can
 * run goes on. Nothing is ever preempted, so every run in one order is the same run; a second order
 * (REVERSE) brings out many a missing barrier. A kernel that never waits needs one stack only:
 * when a thread ends, the next one starts in a loop on the same stack.
 *
 * Always on, since they cost nothing: shared memory that begins as NaN, and a report instead of a
 * standstill when no thread can go on. checker.cpp adds what needs to see every load and store.
 */
#include "runtime.h"

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <link.h>
#include <pthread.h>
#include <string>
#include <sys/mman.h>
#include <thread>

PER_OS_THREAD uint3 threadIdx, blockIdx, blockDim, gridDim;
PER_OS_THREAD Worker* worker;

/* ---- giving up ------------------------------------------------------------------------------ */

/* Leave the block for good: its fibers are forgotten where they stand. */
[[noreturn]] static void leave(Worker* w, Result result) {
    w->failed = true;
    w->launch->stopped = true;
    if (result == INTERRUPTED) w->launch->result = INTERRUPTED;
    Fiber forgotten;
    fiber_switch(forgotten, w->home);
    __builtin_unreachable();
}

[[noreturn]] void fail(const char* format, ...) {
    Worker* w = worker;
    {
        std::lock_guard<std::mutex> guard(w->launch->mutex);
        if (w->launch->result == DONE) {         /* the first one to fail speaks */
            va_list list;
            va_start(list, format);
            const Request& request = w->launch->request;
            vsnprintf(request.message, request.message_bytes, format, list);
            va_end(list);
            w->launch->result = FAILED;
        }
    }
    leave(w, FAILED);
}

static std::string describe_thread(uint3 t) {
    return "(" + std::to_string(t.x) + "," + std::to_string(t.y) + "," + std::to_string(t.z) + ")";
}

/* No thread can go on: say who waits where. */
[[noreturn]] static void standstill(Worker* w) {
    struct Crowd { Site site; int count; uint3 first; };
    std::vector<Crowd> crowds;
    for (size_t t = 0; t < w->threads.size(); t++) {
        if (w->warps[t / 32].returned >> (t % 32) & 1) continue;
        const Site& site = w->threads[t].waits;
        Crowd* found = nullptr;
        for (Crowd& crowd : crowds)
            if (crowd.site.line == site.line && crowd.site.what == site.what) found = &crowd;
        if (found) found->count++;
        else crowds.push_back({site, 1, w->threads[t].index});
    }
    std::string text;
    for (const Crowd& crowd : crowds)
        text += "\n  " + std::to_string(crowd.count) + " from " + describe_thread(crowd.first) +
                " on in " + crowd.site.what + " at " + crowd.site.file + ":" +
                std::to_string(crowd.site.line);
    if (w->returned) text += "\n  " + std::to_string(w->returned) + " have returned";
    fail("deadlock in block %s: its threads wait for one another%s",
         describe_thread(blockIdx).c_str(), text.c_str());
}

/* ---- interruption --------------------------------------------------------------------------- */

/* Ctrl-C while a kernel runs: the worker whose kernel code the signal meets leaves its block at
 * once; one that is inside the emulator, perhaps holding a lock, leaves at the next switch. */
static std::atomic<Launch*> interruptible{nullptr};
static std::vector<pthread_t> running;           /* guarded by the launch: filled before, then read */

static void interrupt(int signal) {
    Launch* launch = interruptible;
    if (!launch) return;
    if (!launch->stopped.exchange(true)) {
        launch->result = INTERRUPTED;
        for (pthread_t other : running)
            if (!pthread_equal(other, pthread_self())) pthread_kill(other, signal);
    }
    if (worker && !worker->inside && !worker->failed) leave(worker, INTERRUPTED);
}

/* ---- stacks --------------------------------------------------------------------------------- */

/* They live as long as the process: to map them anew at each launch costs a page fault each. */
static std::vector<char*> spare_stacks;
static std::mutex spare_mutex;

static char* take_stack(Worker* w) {
    if (w->stacks.empty()) {
        const size_t many = 64;
        std::lock_guard<std::mutex> guard(spare_mutex);
        if (spare_stacks.empty()) {
            char* mapped = (char*)mmap(nullptr, many * STACK, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (mapped == MAP_FAILED) fail("no memory for the stacks of the threads");
            for (size_t i = 0; i < many; i++) spare_stacks.push_back(mapped + i * STACK);
        }
        for (size_t i = 0; i < many && !spare_stacks.empty(); i++) {
            w->stacks.push_back(spare_stacks.back());
            w->taken.push_back(spare_stacks.back());
            spare_stacks.pop_back();
        }
    }
    char* stack = w->stacks.back();
    w->stacks.pop_back();
    return stack;
}

static void give_back_stacks(Worker* w) {
    std::lock_guard<std::mutex> guard(spare_mutex);
    spare_stacks.insert(spare_stacks.end(), w->taken.begin(), w->taken.end());
}

/* ---- who runs ------------------------------------------------------------------------------- */

static void run_threads();

static inline void enter(Worker* w, int t) {
    w->current = t;
    threadIdx = w->threads[t].index;
}

/* Go to thread t; its stack is made where it has none yet. */
static inline void go_to(Worker* w, int t, Fiber& from) {
    Thread& thread = w->threads[t];
    if (!thread.stack) {
        thread.stack = take_stack(w);
        /* Tops that all lie at one distance would all compete for the same lines of the cache. */
        const size_t shift = (uintptr_t)thread.stack / STACK % 61 * 64;
        fiber_start(thread.fiber, thread.stack + STACK - shift, STACK - shift, run_threads);
    }
    enter(w, t);
    fiber_switch(from, thread.fiber);
}

/* One of the threads that can run, by chance: the same in every run with the same seed. */
static int choose_by_chance(Worker* w) {
    int count = 0;
    for (const Warp& warp : w->warps) count += __builtin_popcount(warp.runnable);
    if (!count) standstill(w);
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;       /* Knuth's MMIX */
    int skip = (int)((w->random >> 33) % count);
    for (size_t i = 0;; i++) {
        unsigned runnable = w->warps[i].runnable;
        const int here = __builtin_popcount(runnable);
        if (skip >= here) { skip -= here; continue; }
        while (skip--) runnable &= runnable - 1;
        return (int)i * 32 + __builtin_ctz(runnable);
    }
}

/* A thread that can run: the next of this warp, else of the next warp; or the last of all. */
static inline int choose(Worker* w) {
    const int warps = (int)w->warps.size();
    if (w->launch->request.order == RANDOM) return choose_by_chance(w);
    if (w->launch->request.order == REVERSE) {
        for (int i = warps - 1; i >= 0; i--)
            if (w->warps[i].runnable) return i * 32 + 31 - __builtin_clz(w->warps[i].runnable);
    } else {
        const int own = w->current / 32, lane = w->current % 32;
        const unsigned runnable = w->warps[own].runnable, later = runnable & (~1u << lane);
        if (runnable) return own * 32 + __builtin_ctz(later ? later : runnable);
        for (int k = 1, i = own; k < warps; k++) {
            if (++i == warps) i = 0;
            if (w->warps[i].runnable) return i * 32 + __builtin_ctz(w->warps[i].runnable);
        }
    }
    standstill(w);
}

/* Lanes that asked for __activemask go on when no other lane of their warp can: those at one place
 * in the code are active together, as on a GPU whose lanes have met again wherever they may. */
static void let_converged_go(Worker* w, int warp_number) {
    Warp& warp = w->warps[warp_number];
    const Thread* threads = &w->threads[(size_t)warp_number * 32];
    const Site& site = threads[__builtin_ctz(warp.converging)].waits;
    warp.active = 0;
    for (int lane = 0; lane < 32; lane++)
        if (warp.converging >> lane & 1 && threads[lane].waits.line == site.line &&
            threads[lane].waits.file == site.file)
            warp.active |= 1u << lane;
    warp.converging &= ~warp.active;
    warp.runnable |= warp.active;
}

/* A thread waits, or has returned. */
static inline void cannot_run(Worker* w, int t) {
    Warp& warp = w->warps[t / 32];
    warp.runnable &= ~(1u << t % 32);
    if (!warp.runnable && warp.converging) let_converged_go(w, t / 32);
}

static inline void wait_for_others(Worker* w) {
    if (w->launch->stopped) leave(w, FAILED);
    const int t = w->current;
    cannot_run(w, t);
    const int next = choose(w);
    if (next != t) go_to(w, next, w->threads[t].fiber);
}

static void open_barrier(Worker* w) {
    w->waiting = 0;
    w->epoch++;
    w->last_votes = w->votes;
    w->votes = {0, true, false};
    for (Warp& warp : w->warps) warp.runnable = warp.exists & ~warp.returned;
}

/* Lanes that have returned, or that a short last warp never had, are not waited for. */
static inline bool complete(const Warp& warp, const Meeting& meeting) {
    return ((meeting.arrived | warp.returned | ~warp.exists) & meeting.mask) == meeting.mask;
}

/* Who published nothing has published NaN. */
static inline void open_meeting(Warp& warp, Meeting& meeting) {
    for (unsigned absent = ~meeting.arrived; absent; absent &= absent - 1)
        meeting.values[meeting.phase][__builtin_ctz(absent)] = ~(uint64_t)0;
    warp.runnable |= meeting.arrived;
    meeting.unread |= meeting.arrived;
    warp.epoch++;
    meeting.arrived = 0;
    meeting.phase ^= 1;
}

/* What every fiber runs: one thread of the kernel, and then the next on the same stack. */
static void run_threads() {
    Worker* w = worker;
    for (;;) {
        w->inside = false;
        w->launch->request.enter(w->launch->request.arguments);
        w->inside = true;
        const int t = w->current;
        Thread& thread = w->threads[t];
        Warp& warp = w->warps[t / 32];
        warp.returned |= 1u << t % 32;
        Fiber forgotten;
        if (++w->returned == (int)w->threads.size()) {
            w->stacks.push_back(thread.stack);
            fiber_switch(forgotten, w->home);
        }
        if (w->launch->stopped) leave(w, FAILED);
        for (int i = 0; i < warp.meetings_count; i++) {
            Meeting& meeting = warp.meetings[i];
            if (!meeting.arrived || !complete(warp, meeting)) continue;
            if (w->launch->request.mode != FAST) {
                const int waits = t / 32 * 32 + __builtin_ctz(meeting.arrived);
                const Site& site = w->threads[waits].waits;
                fail("%s at %s:%d: thread %s waits there for lanes that have returned, thread %s "
                     "among them", site.what, site.file, site.line,
                     describe_thread(w->threads[waits].index).c_str(),
                     describe_thread(thread.index).c_str());
            }
            open_meeting(warp, meeting);
        }
        if (w->waiting && w->waiting == (int)w->threads.size() - w->returned) open_barrier(w);
        cannot_run(w, t);
        const int next = choose(w);
        if (!w->threads[next].stack) {
            w->threads[next].stack = thread.stack;
            enter(w, next);
        } else {
            w->stacks.push_back(thread.stack);
            go_to(w, next, forgotten);
        }
    }
}

/* ---- what a kernel calls: cuda_emulator.h declares it --------------------------------------- */

/* Marks the time inside the emulator, for `interrupt`. */
struct Inside {
    Worker* w = worker;
    Inside() { w->inside = true; }
    ~Inside() { w->inside = false; }
};

static void barrier(Worker* w, Site site) {
    w->threads[w->current].waits = site;
    if (!w->waiting) w->barrier = site;
    else if (w->launch->request.mode != FAST &&
             (w->barrier.line != site.line || strcmp(w->barrier.file, site.file)))
        fail("divergent barrier: thread %s of block %s is in %s at %s:%d while others wait in %s "
             "at %s:%d; all threads of a block must come to the same barrier",
             describe_thread(threadIdx).c_str(), describe_thread(blockIdx).c_str(), site.what,
             site.file, site.line, w->barrier.what, w->barrier.file, w->barrier.line);
    if (++w->waiting == (int)w->threads.size() - w->returned) open_barrier(w);
    else wait_for_others(w);
}

EXPORT void emulator_barrier(const char* what, const char* file, int line) {
    Inside inside;
    barrier(inside.w, {what, file, line});
}

EXPORT int emulator_barrier_vote(int vote, int question, const char* what, const char* file,
                                 int line) {
    Inside inside;
    Votes& votes = inside.w->votes;
    votes.count += vote != 0;
    votes.all &= vote != 0;
    votes.any |= vote != 0;
    barrier(inside.w, {what, file, line});
    const Votes& result = inside.w->last_votes;
    return question == 0 ? result.count : question == 1 ? result.all : result.any;
}

EXPORT unsigned emulator_present() {
    const Warp& warp = worker->warps[worker->current / 32];
    return warp.exists & ~warp.returned;
}

EXPORT unsigned emulator_active(const char* what, const char* file, int line) {
    Inside inside;
    Worker* w = inside.w;
    Warp& warp = w->warps[w->current / 32];
    w->threads[w->current].waits = {what, file, line};
    warp.converging |= 1u << w->current % 32;
    wait_for_others(w);
    return warp.active;
}

EXPORT void emulator_fence() {
    Inside inside;
    if (inside.w->launch->request.mode != FAST) check_fence();
}

/* The meeting for a mask: the one it has, else one that is done with. */
static Meeting& meeting_of(Warp& warp, unsigned mask) {
    for (int i = 0; i < warp.meetings_count; i++)
        if (warp.meetings[i].mask == mask) return warp.meetings[i];
    int i = 0;
    while (i < warp.meetings_count && (warp.meetings[i].arrived || warp.meetings[i].unread)) i++;
    if (i == MEETINGS) fail("lanes of one warp wait under more than %d masks", MEETINGS);
    if (i == warp.meetings_count) warp.meetings_count++;
    warp.meetings[i].mask = mask;
    warp.meetings[i].arrived = warp.meetings[i].unread = 0;
    warp.meetings[i].phase = 0;
    return warp.meetings[i];
}

/* Publish a value to the lanes of a mask, wait for all of them, and return what they published. */
EXPORT const uint64_t* emulator_exchange(unsigned mask, uint64_t value, const char* what,
                                         const char* file, int line) {
    Inside inside;
    Worker* w = inside.w;
    const int t = w->current;
    Warp& warp = w->warps[t / 32];
    const unsigned lane = 1u << t % 32;
    if (!(mask & lane))
        fail("%s at %s:%d: thread %s is lane %d, which is not in its own mask %#010x", what, file,
             line, describe_thread(threadIdx).c_str(), t % 32, mask);
    if (w->launch->request.mode != FAST && (mask & warp.returned))
        fail("%s at %s:%d: the mask %#010x of thread %s names lanes that have returned (%#010x)",
             what, file, line, mask, describe_thread(threadIdx).c_str(), mask & warp.returned);
    Meeting& meeting = meeting_of(warp, mask);
    const uint64_t* values = meeting.values[meeting.phase];
    meeting.values[meeting.phase][t % 32] = value;
    meeting.arrived |= lane;
    w->threads[t].waits = {what, file, line};
    if (complete(warp, meeting)) open_meeting(warp, meeting);
    else wait_for_others(w);
    meeting.unread &= ~lane;
    return values;
}

/* What a lane published, for one that asks for it by number: where memory is watched, a lane that
 * published nothing is an error. */
EXPORT uint64_t emulator_published(const uint64_t* values, unsigned mask, int from,
                                   const char* what, const char* file, int line) {
    Inside inside;
    const Worker* w = inside.w;
    const unsigned there = mask & w->warps[w->current / 32].exists;
    if (there >> from & 1) return values[from];
    if (strcmp(what, "__shfl_up_sync") && strcmp(what, "__shfl_down_sync"))
        fail("%s at %s:%d: thread %s reads from lane %d, which %s", what, file, line,
             describe_thread(threadIdx).c_str(), from,
             mask >> from & 1 ? "this block does not have: its last warp is not full"
                              : "is not in the mask");
    return values[from];                         /* the ends of a row, which nobody uses */
}

EXPORT void* emulator_dynamic_shared() { return worker->dynamic; }

const char* const COPYING = "cp.async";

/* cp.async: nothing arrives before it is waited for, and until then there is NaN. */
EXPORT void emulator_copy_async(void* to, const void* from, int bytes, const char* file, int line) {
    Inside inside;
    Thread& thread = inside.w->threads[inside.w->current];
    const Site site = {COPYING, file, line};
    if (inside.w->launch->request.mode != FAST) {
        check_access(from, bytes, false, false, nullptr, &site);
        check_access(to, bytes, true, false, nullptr, &site);
    }
    memset(to, 0xff, bytes);
    thread.copies.push_back({(char*)to, (const char*)from, bytes, thread.copy_groups, site});
}

EXPORT void emulator_copy_commit() { worker->threads[worker->current].copy_groups++; }

EXPORT void emulator_copy_wait(int groups_left) {
    Inside inside;
    Thread& thread = inside.w->threads[inside.w->current];
    size_t arrived = 0;
    for (const AsyncCopy& copy : thread.copies) {
        if (copy.group >= thread.copy_groups - groups_left) break;
        if (inside.w->launch->request.mode != FAST) {
            const Site arrived_at = {"cp.async, arrived", copy.site.file, copy.site.line};
            check_access(copy.to, copy.bytes, true, false, nullptr, &arrived_at);
        }
        memcpy(copy.to, copy.from, copy.bytes);
        arrived++;
    }
    thread.copies.erase(thread.copies.begin(), thread.copies.begin() + arrived);
}

EXPORT void emulator_trap(const char* what, const char* file, int line) {
    Inside inside;
    fail("%s at %s:%d: thread %s of block %s gives up", what, file, line,
         describe_thread(threadIdx).c_str(), describe_thread(blockIdx).c_str());
}

/* ---- launching ------------------------------------------------------------------------------ */

struct TlsIndex { size_t module, offset; };
extern "C" void* __tls_get_addr(TlsIndex*);      /* of the C library: where thread-locals lie */

/* Which loaded file contains this code, and how large are its thread-local variables? */
EXPORT int emulator_find(const void* code, Module* found) {
    struct Search { const char* code; Module* found; bool done; } search{(const char*)code, found,
                                                                         false};
    dl_iterate_phdr([](dl_phdr_info* file, size_t, void* data) -> int {
        Search& search = *(Search*)data;
        Module here{0, 0, (const char*)-1, nullptr};
        for (int i = 0; i < file->dlpi_phnum; i++) {
            const auto& part = file->dlpi_phdr[i];
            const char* begin = (const char*)(file->dlpi_addr + part.p_vaddr);
            if (part.p_type == PT_LOAD) {
                if (begin < here.begin) here.begin = begin;
                if (begin + part.p_memsz > here.end) here.end = begin + part.p_memsz;
            }
            if (part.p_type == PT_TLS) {
                here.tls_number = file->dlpi_tls_modid;
                here.tls_bytes = part.p_memsz;
            }
        }
        if (search.code < here.begin || search.code >= here.end) return 0;
        *search.found = here;
        search.done = true;
        return 1;
    }, &search);
    return search.done;
}

static void prepare_worker(Worker* w) {
    const Request& request = w->launch->request;
    const unsigned* size = request.block;
    blockDim = {size[0], size[1], size[2]};
    gridDim = {request.grid[0], request.grid[1], request.grid[2]};
    w->threads.resize((size_t)size[0] * size[1] * size[2]);
    w->warps.resize((w->threads.size() + 31) / 32);
    size_t t = 0;
    for (unsigned z = 0; z < size[2]; z++)
        for (unsigned y = 0; y < size[1]; y++)
            for (unsigned x = 0; x < size[0]; x++) w->threads[t++].index = {x, y, z};
    if (request.module->tls_number) {
        TlsIndex start{request.module->tls_number, 0};
        w->shared = (char*)__tls_get_addr(&start);
    }
    if (request.dynamic_shared)
        w->dynamic = (char*)aligned_alloc(1024, (request.dynamic_shared + 1023) / 1024 * 1024);
}

static void run_block(Worker* w, uint64_t block) {
    const Request& request = w->launch->request;
    w->block = block;
    blockIdx = {(unsigned)(block % gridDim.x), (unsigned)(block / gridDim.x % gridDim.y),
                (unsigned)(block / gridDim.x / gridDim.y)};
    /* All bits set is a NaN in every floating-point format. */
    if (w->shared) memset(w->shared, 0xff, request.module->tls_bytes);
    if (w->dynamic) memset(w->dynamic, 0xff, request.dynamic_shared);
    for (Thread& thread : w->threads) {
        thread.stack = nullptr;
        thread.copies.clear();
        thread.copy_groups = 0;
        thread.fences = 0;
    }
    const size_t threads = w->threads.size();
    for (size_t i = 0; i < w->warps.size(); i++) {
        Warp& warp = w->warps[i];
        warp.exists = threads - 32 * i >= 32 ? ~0u : (1u << (threads - 32 * i)) - 1;
        warp.runnable = warp.exists;
        warp.returned = warp.epoch = warp.converging = 0;
        warp.meetings_count = 0;
    }
    w->returned = w->waiting = 0;
    w->epoch = 0;
    w->votes = {0, true, false};
    w->random = (uint64_t)request.seed << 32 | (uint32_t)block;
    go_to(w, request.order == FORWARD ? 0 : choose(w), w->home);
}

static void run_blocks(Launch* launch) {
    const Request& request = launch->request;
    Worker w{};
    w.launch = launch;
    w.inside = true;
    worker = &w;
    prepare_worker(&w);
    const uint64_t blocks = (uint64_t)request.grid[0] * request.grid[1] * request.grid[2];
    while (!launch->stopped) {
        const uint64_t next = launch->next_block++;
        if (next >= blocks) break;
        const uint64_t block = request.order == REVERSE ? blocks - 1 - next : next;
        if (request.mode != FAST) checker_starts_block(&w);
        run_block(&w, block);
        if (w.failed) break;
        if (request.mode != FAST) checker_ends_block(&w);
    }
    worker = nullptr;
    give_back_stacks(&w);
    free(w.dynamic);
    std::lock_guard<std::mutex> guard(launch->mutex);
    launch->finished++;
    launch->one_finished.notify_all();
}

/* Run every block of a launch. The calling thread takes part. */
static void run_on_all_cores(Launch* launch) {
    const Request& request = launch->request;
    std::vector<std::thread> helpers;
    running.assign(1, pthread_self());
    for (int i = 1; i < request.os_threads; i++) {
        helpers.emplace_back(run_blocks, launch);
        running.push_back(helpers.back().native_handle());
    }
    interruptible = launch;
    run_blocks(launch);
    {   /* a thread that was joined may not be signalled any more: so wait for all, then join */
        std::unique_lock<std::mutex> guard(launch->mutex);
        while (launch->finished < (int)running.size()) launch->one_finished.wait(guard);
    }
    interruptible = nullptr;
    for (std::thread& helper : helpers) helper.join();
}

EXPORT int emulator_launch(const Request* request) {
    static std::mutex one_at_a_time;             /* as one stream of a GPU */
    std::lock_guard<std::mutex> guard(one_at_a_time);
    Launch launch(*request);
    struct sigaction ours = {}, before;
    ours.sa_handler = interrupt;
    ours.sa_flags = SA_NODEFER;                  /* it may leave the handler for good */
    sigaction(SIGINT, nullptr, &before);
    const bool catches = before.sa_handler != SIG_IGN;
    if (request->mode != FAST) checker_starts_launch(&launch);
    if (catches) sigaction(SIGINT, &ours, nullptr);
    run_on_all_cores(&launch);
    if (catches) sigaction(SIGINT, &before, nullptr);
    if (request->mode != FAST) checker_ends_launch(&launch);
    return launch.result;
}
