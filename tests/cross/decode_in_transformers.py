"""The other side of scripts/bench_decode.py: transformers in float32, when it is asked to.

    python tests/cross/decode_in_transformers.py FOLDER THREADS {prefill,decode} PROMPT NEW

FOLDER has config.json and safetensors. Steps and answers are those of decode_in_llama_cpp.py. A
prefill asks for the logits of the last token alone, as writing does.
"""

import json
import resource
import sys
import time

import numpy as np
import torch
import transformers


def main():
    """Load, say hello, then answer."""
    folder, mode = sys.argv[1], sys.argv[3]
    threads, prompt = int(sys.argv[2]), int(sys.argv[4])
    torch.set_num_threads(threads)
    began = time.perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    load = time.perf_counter() - began
    text = torch.from_numpy(np.random.default_rng(1).integers(1000, 20000, (1, prompt)))
    known = None

    def read(ids, cache):
        """(seconds, what the model says)."""
        start = time.perf_counter()
        said = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return time.perf_counter() - start, said

    def step():
        nonlocal known
        if mode == "prefill":
            return read(text, None)[0]
        seconds, known = read(known.logits[:, -1:].argmax(dim=-1), known.past_key_values)
        return seconds

    with torch.no_grad():
        if mode == "decode":
            known = read(text, None)[1]
        print(json.dumps({"version": transformers.__version__, "load": load,
                          "cpu": torch.backends.cpu.get_cpu_capability()}), flush=True)
        for line in sys.stdin:
            seconds = [step() for _ in range(int(line))]
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps({"seconds": seconds, "losses": [], "peak": peak}), flush=True)


if __name__ == "__main__":
    main()
