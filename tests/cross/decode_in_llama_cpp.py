"""The other side of scripts/bench_decode.py: llama.cpp, which reads or writes when it is asked to.

    python tests/cross/decode_in_llama_cpp.py MODEL THREADS {prefill,decode} PROMPT NEW

Each line of standard input is a number of steps; the answer is a line of JSON with the seconds of
each, and the peak of memory. A step of prefill reads PROMPT tokens from an empty cache. One of
decode writes a token, the likeliest, behind PROMPT tokens and what was written before. What is
timed is llama_decode, without the Python around it.
"""

import ctypes
import json
import resource
import sys
import time

import llama_cpp
import numpy as np


def main():
    """Load, say hello, then answer."""
    path, mode = sys.argv[1], sys.argv[3]
    threads, prompt, new = int(sys.argv[2]), int(sys.argv[4]), int(sys.argv[5])
    began = time.perf_counter()
    model = llama_cpp.Llama(path, n_ctx=prompt + new, n_batch=max(512, prompt), n_threads=threads,
                            n_threads_batch=threads, verbose=False)
    load = time.perf_counter() - began
    context = model._ctx.ctx
    text = np.random.default_rng(1).integers(1000, 20000, prompt).tolist()
    words = model.n_vocab()

    def read(tokens):
        """The seconds that these tokens take."""
        ids = (ctypes.c_int32 * len(tokens))(*tokens)  # the batch does not keep it alive
        batch = llama_cpp.llama_batch_get_one(ids, len(tokens))
        start = time.perf_counter()
        if llama_cpp.llama_decode(context, batch):
            raise SystemExit("llama_decode has failed")
        return time.perf_counter() - start

    def step():
        if mode == "prefill":
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
            return read(text)
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        return read([int(np.ctypeslib.as_array(logits, (words,)).argmax())])

    if mode == "decode":
        read(text)
    kinds = llama_cpp.llama_print_system_info().decode()
    print(json.dumps({"version": llama_cpp.__version__, "cpu": kinds, "load": load}), flush=True)
    for line in sys.stdin:
        seconds = [step() for _ in range(int(line))]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "losses": [], "peak": peak}), flush=True)


if __name__ == "__main__":
    main()
