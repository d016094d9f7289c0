/* What runtime.cpp and checker.cpp share: a launch, blocks that run, their warps and threads. */
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "fiber.h"

#define EXPORT extern "C" __attribute__((visibility("default")))
#define PER_OS_THREAD __thread __attribute__((tls_model("initial-exec")))

struct uint3 { unsigned x, y, z; };
extern __attribute__((visibility("default"))) PER_OS_THREAD uint3 threadIdx, blockIdx, blockDim,
    gridDim;

enum Mode { FAST = 0, CHECK = 1, COUNT = 2 };    /* bits: who counts also checks */
enum Order { FORWARD = 0, REVERSE = 1, RANDOM = 2 };
enum Result { DONE = 0, FAILED = 1, INTERRUPTED = 2 };

const size_t STACK = 64 << 10;       /* of a fiber; a page of it costs memory once it is touched */
const int MEETINGS = 32;             /* of a warp at one time: a lane waits in one at most */

/* The compiled kernel file in memory: where its code and its shared memory are. */
struct Module {
    size_t tls_number;               /* 0: it has no static shared memory */
    size_t tls_bytes;
    const char *begin, *end;         /* addresses of its code and data */
};

struct Array { const char* base; size_t bytes; int itemsize; const char* name; };
struct SharedVariable { size_t offset, bytes; int itemsize; const char* name; };

/* All that Python says about a launch; request.py has the same struct, field by field. */
struct Request {
    void (*enter)(void**);
    void** arguments;
    const Module* module;
    const Array* arrays;
    const SharedVariable* shared;
    int arrays_count, shared_count;
    unsigned grid[3], block[3];
    size_t dynamic_shared;
    int os_threads, order, mode;
    unsigned seed;                   /* of the order RANDOM */
    char* message;
    size_t message_bytes;
};

struct Worker;
struct Launch {
    const Request& request;
    std::atomic<uint64_t> next_block{0};
    std::atomic<bool> stopped{false};
    std::mutex mutex;
    std::condition_variable one_finished;
    int finished = 0;                /* workers that will run no more blocks */
    Result result = DONE;
    explicit Launch(const Request& request) : request(request) {}
};

struct Site { const char *what, *file; int line; };
extern const char* const COPYING;    /* `what` of a copy that was asked for, and has not arrived */
struct AsyncCopy { char* to; const char* from; int bytes, group; Site site; };

struct Thread {
    Fiber fiber;
    char* stack;                     /* null: not started yet */
    uint3 index;
    Site waits;
    std::vector<AsyncCopy> copies;   /* cp.async: asked for, not yet waited for */
    int copy_groups;
    unsigned fences;                 /* how many __threadfence it has passed */
};

/* Threads of a warp that wait for one another under one mask. Two sets of values: a fast lane may
 * be in the next exchange before a slow one has read the values of this one. Where nobody has
 * arrived and none has still to read, the meeting can serve another mask. */
struct Meeting { unsigned mask, arrived, unread; int phase; uint64_t values[2][32]; };

struct Warp {
    unsigned exists, returned, runnable;     /* a bit a lane */
    unsigned converging, active;             /* lanes in __activemask, and what it answers */
    unsigned epoch;                          /* how many meetings there were: what is ordered */
    int meetings_count;
    Meeting meetings[MEETINGS];
};

struct Votes { int count; bool all, any; };

/* An operating-system thread that runs one block after another. */
struct Worker {
    Launch* launch;
    Fiber home;                      /* where the block is left to */
    volatile bool inside;            /* in the emulator, not in the kernel: do not jump out */
    bool failed;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<char*> stacks, taken;        /* free ones, and all that belong to this worker */
    int current, returned, waiting;
    unsigned epoch;                  /* how many barriers this block has passed */
    uint64_t block, random;
    Site barrier;                    /* where the first thread of this barrier waits */
    Votes votes, last_votes;
    char *shared, *dynamic;
    void* checker;                   /* what checker.cpp remembers */
};
extern PER_OS_THREAD Worker* worker;

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

/* checker.cpp */
void checker_starts_launch(Launch*);
void checker_starts_block(Worker*);
void checker_ends_block(Worker*);
void checker_ends_launch(Launch*);
void check_fence();
void check_access(const void* address, size_t bytes, bool writes, bool atomic, const void* code,
                  const Site* site = nullptr, bool aligned = true);
