"""The other side of scripts/bench_lora.py: an adapter trained by peft, steps taken when asked for.

    python tests/cross/lora_in_peft.py FOLDER THREADS

FOLDER holds base/ (a published model), adapter/ (in peft's layout), batches.npy and numbers.json.
Each line of standard input is a number of steps; the answer is a line of JSON with the seconds and
the loss of each, and the peak of memory. A process of its own, so that memory and threads are
PyTorch's alone.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def main():
    """Load the model with its adapter, say hello, then answer."""
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    numbers = json.loads((folder / "numbers.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    base.config.use_cache = False
    model = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=numbers["lr"], betas=tuple(numbers["betas"]),
                                  weight_decay=0.0, fused=True)
    batches = torch.from_numpy(np.load(folder / "batches.npy"))
    print(json.dumps({"version": torch.__version__.partition("+")[0]}), flush=True)
    done = 0
    for line in sys.stdin:
        seconds, losses = [], []
        for _ in range(int(line)):
            ids = batches[done % len(batches)]
            done += 1
            start = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            logits = model(ids[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            seconds.append(time.perf_counter() - start)
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"seconds": seconds, "losses": losses, "peak": peak}), flush=True)


if __name__ == "__main__":
    main()
