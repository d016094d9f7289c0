"""Lesson 5.10 · A ladder: how a token becomes a hundred times cheaper

Needs cache, gguf_model, llama, fused, packed_llama, tensor, threads.
Used by tests/inference/test_ladder.py.

Idea      The same model writes the same kind of text, seven times. Each rung takes away one thing
          that the one before wasted, and says how fast it is now. What is wasted first is work: a
          text read again for every token. Then calls: five hundred small ones. Then bytes: four
          for every weight, though one of them, or a half, says nearly as much. Then a core that
          looks on, and at last memory that is asked for and given back.
          The order is not chance. While a token costs five hundred calls, smaller weights gain
          nothing; while bytes are four to a weight, a second core gains only what memory has left.
Math      seconds of a token ≥ bytes read / bytes that memory gives a second                    (1)
Shapes    RUNGS: name -> what is different; climb(model) yields (name, tokens a second, bytes)
Pitfalls  The first tokens of a rung touch memory for the first time, and are not counted.
          Weights of four bits are other weights: this ladder is about speed, and what it costs in
          surprise is scripts/perplexity.py's to say.
          A machine whose other core works for somebody else shows no rung for threads.
Cost      SmolLM2's sizes, two cores: python -m tinygrad_edu.inference.ladder prints the table.
Try       build it    a rung for a cache of 16 bits.
          break it    the rungs in another order: int4 first, with plain operations after it.
          measure it  python -m tinygrad_edu.inference.ladder MODEL.gguf
See       the lessons cache, packed, fused and threads · Williams et al. 2009 (roofline)
"""

import sys
import time
from statistics import median

import numpy as np

from .. import threads
from ..models import fused
from ..models.gguf_model import load_gguf_model
from ..models.llama import Llama, LlamaConfig
from ..models.packed_llama import packed
from ..tensor import no_grad
from .cache import KVCache

SMOLLM2 = LlamaConfig(49152, 8192, 30, 9, 3, 576, 1536)
RUNGS = {
    "float32, plain operations": "the whole text is read for every token",
    "cache": "keys and values of what was read are kept",
    "fused": "a token is one call, not five hundred",
    "int8": "a weight is one byte",
    "int4": "a weight is half a byte",
    "threads": "every core reads its share",
    "static buffers": "what a token works on is there already",
}


def climb(model, prompt=64, new=16, progress=iter):
    """Yield (name, tokens a second, bytes of the weights) for every rung; model: a Llama."""
    ids = np.random.default_rng(0).integers(0, model.config.vocabulary, (1, prompt))
    cores = threads.count()
    kinds = {"fused": "F32", "int8": "Q8_0", "int4": "Q4_0"}
    for name in progress(RUNGS):
        if name in kinds:
            now = packed(model, kinds[name])
        elif name in ("float32, plain operations", "cache"):
            now = model
        with threads.limit(cores if name in ("threads", "static buffers") else 1):
            count = 3 if name == "float32, plain operations" else new
            speed = write(now, ids, count, name)
        yield name, speed, weights_of(now)


def write(model, ids, new, rung):
    """Tokens a second, the median of `new` ones behind ids (1, T)."""
    cache, seconds = KVCache(*model.cache(1, ids.shape[1] + new + 2)), []
    if rung == "float32, plain operations":
        cache = None
    with no_grad():
        logits = model.next_logits(ids, cache=cache).numpy()
        for _ in range(new + 2):
            token = logits.argmax(axis=1)[:, None]
            ids = np.concatenate([ids, token], axis=1)
            start = time.perf_counter()
            if rung != "static buffers":
                fused.buffers.clear()
            logits = model.next_logits(ids if cache is None else token, cache=cache).numpy()
            seconds.append(time.perf_counter() - start)
    return 1 / median(seconds[2:])


def weights_of(model):
    """Bytes that a token reads of them."""
    if hasattr(model, "places"):
        return int((model.places[:, 1] * model.places[:, 2]).sum()) + model.vectors.nbytes
    return sum(tensor.data.nbytes for tensor in model.parameters())


def main(path=None):
    """The ladder of a GGUF file, or of random weights with the sizes of SmolLM2, as a table."""
    from tqdm import tqdm

    if path is None:
        model = Llama(SMOLLM2, np.random.default_rng(0)).eval()
    else:
        model, _ = load_gguf_model(path)
    before, pairs = None, []
    bar = tqdm(RUNGS, unit="rung", leave=False)
    for name, speed, size in climb(model, progress=lambda _: bar):
        gain = "" if before is None else f"× {speed / before:.2f}"
        bar.write(f"{name:26} {speed:8.1f} tokens/s {gain:>8} {size / 1e6:7.1f} MB a token   "
                  f"{RUNGS[name]}", file=sys.stdout)
        pairs.append(f"{name.replace(', plain operations', '').replace(' ', '_')}={speed:.1f}")
        before = speed
    print(" ".join(pairs))


if __name__ == "__main__":
    main(*sys.argv[1:])
