/* Modes "check" and "count": every load and store of a kernel, as its compiler reports it.
 *
 * -fsanitize=thread makes a compiler call a function before each access to memory: __tsan_read4
 * and its kind, with the address. They belong to a library that finds races between threads of the
 * operating system. We do not link that library. We define the functions ourselves, and hear of
 * every access of the unmodified source, whose line is known by the address that we return to.
 *
 * For each byte that threads share we remember who wrote it last and who read it since: a shadow.
 * Two threads of a block are ordered by a barrier between them, or, in one warp, by a shuffle or
 * __syncwarp; two blocks only where one of them does __threadfence and then an atomic, and the
 * other an atomic on the same place later. Two accesses that are not ordered, one of them a write,
 * not both atomic, are a race, whatever the result was this time.
 */
#include "runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unordered_map>

/* ---- what is remembered --------------------------------------------------------------------- */

/* A place in the code: what the compiler's call returns to, or a site that the kernel named. */
struct Code {
    const void* returns_to = nullptr;
    Site site = {};
    /* emulate.py replaces <+offset> by file and line. */
    std::string text() const {
        char text[512];
        const char* begin = worker->launch->request.module->begin;
        if (site.file) snprintf(text, sizeof text, "%s:%d", site.file, site.line);
        else snprintf(text, sizeof text, "<+%zx>", (size_t)((const char*)returns_to - 1 - begin));
        return text;
    }
    std::string here() const;
};

/* When an access was: two of one block are ordered where a barrier or a meeting lies between. */
struct Moment {
    uint32_t block = 0;                          /* number + 1; 0: never */
    uint16_t thread = 0;
    bool atomic = false;
    uint32_t barriers = 0, meetings = 0, fences = 0;     /* that had been passed then */
    Code code;
};

/* Two readers are kept, since one of them may be the very thread that writes next. */
struct Shadow { Moment writer, readers[2]; };

/* The shadow of a stretch of memory, one for `unit` bytes: no more than its elements have, for
 * neighbours belong to different threads. Made page by page where it is touched. */
class Shadows {
    static const size_t PAGE = 256;
    std::vector<std::vector<Shadow>> pages;
public:
    size_t unit = 1;
    void reset(size_t bytes, size_t bytes_of_unit) {
        unit = bytes_of_unit;
        pages.assign(bytes / unit / PAGE + 1, {});
    }
    Shadow& operator[](size_t i) {
        std::vector<Shadow>& page = pages[i / PAGE];
        if (page.empty()) page.resize(PAGE);
        return page[i % PAGE];
    }
};

/* One access, kept until the block ends, and what all accesses of a place in the code came to. */
struct Record { const void* code; uint32_t turn; uint8_t lane, bytes; bool writes, shared;
                uint64_t address; };
struct Total { uint64_t requests, sectors, ideal, shared_requests, ways; bool writes; };

/* An atomic says to those who meet its place later: what was fenced before me is there. */
struct Release { Moment when; size_t fences, known; };
struct Acquire { const void* place; size_t releases; Moment when; };

struct Checker {
    std::unordered_map<uint32_t, std::vector<Moment>> fences;        /* of each block */
    std::unordered_map<uint32_t, std::vector<Acquire>> acquired;     /* of each block */
    std::unordered_map<const void*, std::vector<Release>> releases;  /* at each atomic's place */
    std::vector<Shadows> arrays;
    Shadows shared, dynamic;
    std::vector<std::vector<Record>> records;    /* of each warp */
    std::vector<std::unordered_map<const void*, uint32_t>> turns;    /* of each thread */
    std::unordered_map<const void*, Total> totals;
};
static Checker checker;                          /* these modes run on one core */
static std::string last_count;
static const char* const DYNAMIC = "dynamic shared memory";

/* ---- the words of a report ------------------------------------------------------------------ */

static std::string triple(uint3 t) {
    char text[64];
    snprintf(text, sizeof text, "(%u,%u,%u)", t.x, t.y, t.z);
    return text;
}

std::string Code::here() const {
    return text() + ", thread " + triple(threadIdx) + " of block " + triple(blockIdx);
}

static std::string element(const std::string& name, long byte, size_t itemsize) {
    const long index = byte >= 0 ? byte / (long)itemsize : -((-byte - 1) / (long)itemsize + 1);
    return name + "[" + std::to_string(index) + "]";
}

/* ---- where an address lies ------------------------------------------------------------------ */

/* Memory that threads share: `at` is its unit in the shadows, `byte` its place in the array. */
struct Place {
    Shadows* shadows;
    const char* name;
    size_t at, byte, itemsize;
    bool shared;
    std::string text() const {
        return element(shared && strcmp(name, DYNAMIC) ? std::string("__shared__ ") + name : name,
                       (long)byte, itemsize);
    }
};

[[noreturn]] static void outside(const Code& code, bool writes, const std::string& what,
                                 size_t has, const char* unit) {
    fail("%s: out of bounds: %s %s, which has %zu %s", code.here().c_str(),
         writes ? "writes" : "reads", what.c_str(), has, unit);
}

static const SharedVariable* shared_variable(const Request& request, size_t offset, size_t bytes) {
    for (int i = 0; i < request.shared_count; i++) {
        const SharedVariable& v = request.shared[i];
        if (offset >= v.offset && offset + bytes <= v.offset + v.bytes) return &v;
    }
    return nullptr;
}

/* The __shared__ variable that begins last before an offset: whose end was overrun. */
static const SharedVariable* shared_before(const Request& request, size_t offset) {
    const SharedVariable* found = nullptr;
    for (int i = 0; i < request.shared_count; i++) {
        const SharedVariable& v = request.shared[i];
        if (v.offset <= offset && (!found || v.offset > found->offset)) found = &v;
    }
    return found ? found : request.shared;
}

/* The array whose bounds an address is nearest to: the likely culprit of a wild one. */
static const Array* nearest(const Request& request, const char* address) {
    const Array* found = nullptr;
    size_t least = 0;
    for (int i = 0; i < request.arrays_count; i++) {
        const Array& a = request.arrays[i];
        const size_t away = address < a.base ? a.base - address : address - a.base - a.bytes;
        if (!found || away < least) found = &a, least = away;
    }
    return found;
}

/* Memory that only its own thread or the emulator knows: locals, constants, exchanged values. */
static bool is_private(const Worker* w, const char* address) {
    const Thread& thread = w->threads[w->current];
    const Module& module = *w->launch->request.module;
    const char* meetings = (const char*)w->warps.data();
    const uintptr_t variables = (uintptr_t)&threadIdx;              /* and blockIdx, … beside it */
    return (address >= thread.stack && address < thread.stack + STACK) ||
           (address >= module.begin && address < module.end) ||
           (uintptr_t)address + 256 - variables < 512 ||
           (address >= meetings && address < meetings + w->warps.size() * sizeof(Warp));
}

/* Shared memory: of the launch, or of the file. `margin`: how far past its end we still blame it. */
static bool locate_shared(const Worker* w, const char* address, size_t bytes, bool writes,
                          const Code& code, Place& place) {
    const Request& request = w->launch->request;
    const size_t margin = 1024, dynamic_bytes = request.dynamic_shared;
    if (w->dynamic && address >= w->dynamic && address < w->dynamic + dynamic_bytes + margin) {
        const size_t offset = address - w->dynamic;
        if (offset + bytes > dynamic_bytes)
            outside(code, writes, "byte " + std::to_string(offset) + " of the dynamic shared memory",
                    dynamic_bytes, "bytes by this launch");
        place = {&checker.dynamic, DYNAMIC, offset, offset, bytes, true};
        return true;
    }
    if (!w->shared || !request.shared_count || address + margin < w->shared ||
        address >= w->shared + request.module->tls_bytes + margin)
        return false;
    const long offset = address - w->shared;
    const SharedVariable* v = offset < 0 ? nullptr : shared_variable(request, offset, bytes);
    if (!v) {
        v = shared_before(request, offset < 0 ? 0 : offset);
        outside(code, writes, element(std::string("__shared__ ") + v->name,
                                      offset - (long)v->offset, bytes),
                v->bytes / bytes, "elements of this size");
    }
    place = {&checker.shared, v->name, (size_t)offset, offset - v->offset, bytes, true};
    return true;
}

/* Which memory an access meets; false where no other thread can see it. */
static bool locate(const char* address, size_t bytes, bool writes, const Code& code, Place& place) {
    const Worker* w = worker;
    const Request& request = w->launch->request;
    if (is_private(w, address)) return false;
    for (int i = 0; i < request.arrays_count; i++) {
        const Array& a = request.arrays[i];
        if (address < a.base || address + bytes > a.base + a.bytes) continue;
        if (!a.itemsize) return false;                              /* the arguments' values */
        const size_t offset = address - a.base;
        place = {&checker.arrays[i], a.name, offset, offset, (size_t)a.itemsize, false};
        return true;
    }
    if (locate_shared(w, address, bytes, writes, code, place)) return true;
    const Array* a = nearest(request, address);
    if (!a) fail("%s: there is no array at %p", code.here().c_str(), (const void*)address);
    outside(code, writes, element(a->name, address - a->base, a->itemsize),
            a->bytes / a->itemsize, "elements");
}

/* ---- races ---------------------------------------------------------------------------------- */

static Moment now(const Code& code, bool atomic) {
    Worker* w = worker;
    return {(uint32_t)w->block + 1, (uint16_t)w->current, atomic, w->epoch,
            w->warps[w->current / 32].epoch, w->threads[w->current].fences, code};
}

/* Whether an earlier access is known to have been over before this one. */
static bool ordered(const Moment& before, const Moment& after) {
    if (!before.block) return true;                                 /* there was none */
    if (before.block != after.block) return false;
    if (before.thread == after.thread || before.barriers != after.barriers) return true;
    return before.thread / 32 == after.thread / 32 && before.meetings != after.meetings;
}

/* Whether a fence of the same block comes after an access: of its own thread, or of another one
 * behind a barrier or a meeting. */
static bool fenced(const Moment& access, const Moment& fence) {
    if (access.thread == fence.thread) return access.fences < fence.fences;
    return access.barriers < fence.barriers ||
           (access.thread / 32 == fence.thread / 32 && access.meetings < fence.meetings);
}

/* Whether a release tells of an earlier access. The fence between may be of a third thread, for
 * barriers hand on what they order. */
static bool tells(const Release& release, const Moment& before) {
    if (release.when.block != before.block) return false;
    const std::vector<Moment>& fences = checker.fences[before.block];
    for (size_t i = 0; i < release.fences; i++)
        if (fenced(before, fences[i]) && ordered(fences[i], release.when)) return true;
    return false;
}

/* Whether this thread can know of an earlier access, through the first `known` atomics of its
 * block, or through what the threads knew that it met there. */
static bool learned(const Moment& before, const Moment& after, size_t known, int depth) {
    const std::vector<Acquire>& acquired = checker.acquired[after.block];
    for (size_t i = known; i-- > 0;) {
        if (!ordered(acquired[i].when, after)) continue;
        const std::vector<Release>& releases = checker.releases[acquired[i].place];
        for (size_t j = acquired[i].releases; j-- > 0;)
            if (tells(releases[j], before) ||
                (depth && learned(before, releases[j].when, releases[j].known, depth - 1)))
                return true;
    }
    return false;
}

void check_fence() {
    Worker* w = worker;
    w->threads[w->current].fences++;
    const Moment moment = now({}, false);
    checker.fences[moment.block].push_back(moment);
}

/* Every atomic may both learn and tell. */
static void hand_over(const void* place) {
    const Moment moment = now({}, true);
    if (checker.fences.empty()) return;                              /* nobody has told anything */
    std::vector<Acquire>& acquired = checker.acquired[moment.block];
    std::vector<Release>& releases = checker.releases[place];
    if (!releases.empty()) acquired.push_back({place, releases.size(), moment});
    const size_t fences = checker.fences[moment.block].size();
    if (fences) releases.push_back({moment, fences, acquired.size()});
}

[[noreturn]] static void race(const Code& code, const Place& place, const char* kind,
                              const Moment& before, bool before_wrote) {
    Worker* w = worker;
    const bool same_block = before.block == w->block + 1;
    const uint64_t block = before.block - 1;
    const uint3 index = {(unsigned)(block % gridDim.x), (unsigned)(block / gridDim.x % gridDim.y),
                         (unsigned)(block / gridDim.x / gridDim.y)};
    const std::string other = "thread " + triple(w->threads[before.thread].index) + " of " +
        (same_block ? "the same block" : "block " + triple(index));
    const char* remedy = !same_block ? "blocks are not ordered: use an atomic, or tell the other "
          "block by __threadfence and an atomic that what it reads is there"
        : before.thread / 32 == w->current / 32 ? "__syncwarp or __syncthreads is missing between"
                                                : "__syncthreads is missing between";
    fail("%s: data race: %s %s, which %s at %s; %s", code.here().c_str(), kind,
         place.text().c_str(), (other + (before_wrote ? " wrote" : " read")).c_str(),
         before.code.text().c_str(), remedy);
}

static void check_order(const Code& code, const Place& place, Shadow& shadow, bool writes,
                        bool atomic) {
    const Moment moment = now(code, atomic);
    const size_t known = checker.acquired.empty() ? 0 : checker.acquired[moment.block].size();
    auto in_order = [&](const Moment& before) {
        return ordered(before, moment) || (known && learned(before, moment, known, 3));
    };
    if (!(atomic && shadow.writer.atomic) && !in_order(shadow.writer))
        race(code, place, writes ? "writes" : "reads", shadow.writer, true);
    if (!writes) {
        const Moment& first = shadow.readers[0];
        const bool stays = first.thread != moment.thread && !ordered(first, moment);
        shadow.readers[stays] = moment;
        return;
    }
    for (const Moment& reader : shadow.readers)
        if (!in_order(reader)) race(code, place, "writes", reader, false);
    shadow = {moment, {}};
}

/* ---- every access --------------------------------------------------------------------------- */

void check_access(const void* pointer, size_t bytes, bool writes, bool atomic,
                  const void* returns_to, const Site* site, bool aligned) {
    const char* address = (const char*)pointer;
    const Code code{returns_to, site ? *site : Site{}};
    Place place;
    if (!locate(address, bytes, writes, code, place)) return;
    const size_t past = (uintptr_t)address % bytes;
    if (aligned && past && bytes <= 16 && (bytes & (bytes - 1)) == 0)
        fail("%s: misaligned: %s %zu bytes at once at %s, %zu bytes past a multiple of %zu; a GPU "
             "stops here", code.here().c_str(), writes ? "writes" : "reads", bytes,
             place.text().c_str(), past, bytes);
    const size_t unit = place.shadows->unit;
    for (size_t i = place.at / unit; i <= (place.at + bytes - 1) / unit; i++) {
        Shadow& shadow = (*place.shadows)[i];
        if (place.shared && !writes && !shadow.writer.block)
            fail("%s: reads %s, which no thread of this block has written yet: it is never "
                 "written, or a __syncthreads is missing before", code.here().c_str(),
                 place.text().c_str());
        if (!writes && shadow.writer.code.site.what == COPYING)
            fail("%s: reads %s, which cp.async at %s may still be copying: a wait is missing, or "
                 "lets too many groups go on", code.here().c_str(), place.text().c_str(),
                 shadow.writer.code.text().c_str());
        check_order(code, place, shadow, writes, atomic);
    }
    if (worker->launch->request.mode & COUNT && returns_to) {
        Worker* w = worker;
        checker.records[w->current / 32].push_back(
            {returns_to, checker.turns[w->current][returns_to]++, (uint8_t)(w->current % 32),
             (uint8_t)bytes, writes, place.shared, place.shared ? (uint64_t)address : place.at});
    }
}

EXPORT void emulator_atomic(const void* address, int bytes, const char* file, int line) {
    Worker* w = worker;
    if (w->launch->request.mode == FAST) return;
    w->inside = true;
    const Site site = {"atomic", file, line};
    check_access(address, bytes, true, true, nullptr, &site);
    hand_over(address);
    w->inside = false;
}

/* ---- counting ------------------------------------------------------------------------------- */

static size_t distinct(std::vector<uint64_t>& numbers) {
    std::sort(numbers.begin(), numbers.end());
    return std::unique(numbers.begin(), numbers.end()) - numbers.begin();
}

/* Global memory moves in sectors of 32 bytes: how many does one request of a warp touch? */
static void count_sectors(Total& total, const Record* first, const Record* last) {
    std::vector<uint64_t> sectors, bytes;
    for (const Record* r = first; r != last; r++)
        for (int i = 0; i < r->bytes; i++) {
            bytes.push_back(r->address + i);
            sectors.push_back((r->address + i) / 32);
        }
    total.requests++;
    total.sectors += distinct(sectors);
    total.ideal += (distinct(bytes) + 31) / 32;
}

/* Shared memory has 32 banks of 4 bytes; different words of one bank are served one by one. Lanes
 * that take 8 or 16 bytes each are served in two or four groups. */
static void count_banks(Total& total, const Record* first, const Record* last) {
    const int group = first->bytes <= 4 ? 32 : first->bytes == 8 ? 16 : 8;
    for (int begin = 0; begin < 32; begin += group) {
        std::vector<uint64_t> words;
        for (const Record* r = first; r != last; r++)
            if (r->lane >= begin && r->lane < begin + group)
                for (int i = 0; i < r->bytes; i += 4) words.push_back(r->address / 4 + i / 4);
        if (words.empty()) continue;
        int banks[32] = {}, most = 0;
        const size_t count = distinct(words);
        for (size_t i = 0; i < count; i++) most = std::max(most, ++banks[words[i] % 32]);
        total.shared_requests++;
        total.ways += most;
    }
}

/* One request: the lanes of a warp that come to a place in the code for the n-th time. */
static void count_block() {
    for (std::vector<Record>& records : checker.records) {
        std::stable_sort(records.begin(), records.end(), [](const Record& a, const Record& b) {
            return a.code != b.code ? a.code < b.code : a.turn < b.turn;
        });
        for (size_t i = 0, j; i < records.size(); i = j) {
            for (j = i; j < records.size() && records[j].code == records[i].code &&
                        records[j].turn == records[i].turn; j++) {}
            Total& total = checker.totals[records[i].code];
            total.writes = records[i].writes;
            (records[i].shared ? count_banks : count_sectors)(total, &records[i], &records[j]);
        }
        records.clear();
    }
    for (auto& turns : checker.turns) turns.clear();
}

/* ---- the course of a launch ----------------------------------------------------------------- */

void checker_starts_launch(Launch* launch) {
    const Request& request = launch->request;
    checker = Checker();
    checker.arrays.resize(request.arrays_count);
    for (int i = 0; i < request.arrays_count; i++) {
        const Array& a = request.arrays[i];
        const size_t unit = a.itemsize >= 4 ? 4 : a.itemsize == 2 ? 2 : 1;
        checker.arrays[i].reset(a.bytes, unit);
    }
}

void checker_starts_block(Worker* w) {
    checker.shared.reset(w->launch->request.module->tls_bytes, 1);
    checker.dynamic.reset(w->launch->request.dynamic_shared, 1);
    checker.records.resize(w->warps.size());
    checker.turns.resize(w->threads.size());
}

void checker_ends_block(Worker* w) {
    if (w->launch->request.mode & COUNT) count_block();
}

void checker_ends_launch(Launch* launch) {
    last_count.clear();
    const char* begin = launch->request.module->begin;
    for (const auto& [code, t] : checker.totals) {
        char line[256];
        snprintf(line, sizeof line, "%zx %d %zu %zu %zu %zu %zu\n",
                 (size_t)((const char*)code - 1 - begin), t.writes, (size_t)t.requests,
                 (size_t)t.sectors, (size_t)t.ideal, (size_t)t.shared_requests, (size_t)t.ways);
        last_count += line;
    }
    checker = Checker();
}

/* Of the last launch in mode "count", a line for each place: offset, does it write, requests,
 * sectors, ideal sectors, requests of shared memory, turns that the banks needed for them. */
EXPORT const char* emulator_count() { return last_count.c_str(); }

/* ---- what -fsanitize=thread calls ----------------------------------------------------------- */

/* `aligned`: whether the type promises it. A struct of two floats is 8 bytes that a CPU takes at
 * once, and a GPU in two pieces: it may lie anywhere that a float may. */
static void heard(void* address, size_t bytes, bool writes, bool aligned, const void* returns_to) {
    Worker* w = worker;
    if (!w || w->inside) return;
    if (w->launch->stopped) fail("stopped");
    w->inside = true;
    check_access(address, bytes, writes, false, returns_to, nullptr, aligned);
    w->inside = false;
}

#define HEARD(name, bytes, writes, aligned)                                                        \
    EXPORT void __tsan_##name(void* address) {                                                     \
        heard(address, bytes, writes, aligned, __builtin_return_address(0));                       \
    }
#define OF_SIZE(n)                                                                                 \
    HEARD(read##n, n, false, true) HEARD(write##n, n, true, true)                                  \
    HEARD(unaligned_read##n, n, false, false) HEARD(unaligned_write##n, n, true, false)            \
    HEARD(volatile_read##n, n, false, true) HEARD(volatile_write##n, n, true, true)                \
    HEARD(unaligned_volatile_read##n, n, false, false)                                             \
    HEARD(unaligned_volatile_write##n, n, true, false)
OF_SIZE(1) OF_SIZE(2) OF_SIZE(4) OF_SIZE(8) OF_SIZE(16)
EXPORT void __tsan_read_range(void* address, size_t bytes) {
    heard(address, bytes, false, false, __builtin_return_address(0));
}
EXPORT void __tsan_write_range(void* address, size_t bytes) {
    heard(address, bytes, true, false, __builtin_return_address(0));
}
EXPORT void __tsan_init() {}
EXPORT void __tsan_func_entry(void*) {}
EXPORT void __tsan_func_exit() {}
EXPORT void __tsan_atomic_thread_fence(int) {}

/* Atomics have been announced by emulator_atomic: here they only have to happen. */
#define ATOMICS(bits)                                                                              \
    EXPORT uint##bits##_t __tsan_atomic##bits##_load(const uint##bits##_t* p, int) {               \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                               \
    }                                                                                              \
    EXPORT int __tsan_atomic##bits##_compare_exchange_strong(                                      \
        uint##bits##_t* p, uint##bits##_t* expected, uint##bits##_t value, int, int) {             \
        return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST,            \
                                           __ATOMIC_SEQ_CST);                                      \
    }                                                                                              \
    EXPORT int __tsan_atomic##bits##_compare_exchange_weak(                                        \
        uint##bits##_t* p, uint##bits##_t* expected, uint##bits##_t value, int, int) {             \
        return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST,            \
                                           __ATOMIC_SEQ_CST);                                      \
    }                                                                                              \
    EXPORT uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                              \
        uint##bits##_t* p, uint##bits##_t expected, uint##bits##_t value, int, int) {              \
        __atomic_compare_exchange_n(p, &expected, value, false, __ATOMIC_SEQ_CST,                  \
                                    __ATOMIC_SEQ_CST);                                             \
        return expected;                                                                           \
    }
ATOMICS(8) ATOMICS(16) ATOMICS(32) ATOMICS(64)
