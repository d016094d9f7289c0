"""Lesson 5.10 · A ladder: how a token becomes a hundred times cheaper

Needs cache, tensor, threads. Used by scripts/bench_decode.py.

Idea      The same model writes the same kind of text, seven times. Each rung takes away one thing
          that the one before wasted, and says how fast it is now. What is wasted first is work: a
          text read again for every token. Then calls: five hundred small ones. Then bytes: four
          for every weight, though one of them, or a half, says nearly as much. Then a core that
          looks on, and at last memory that is asked for and given back.
          The order is not chance. While a token costs five hundred calls, smaller weights gain
          nothing; while bytes are four to a weight, a second core gains only what memory has left.
Math      seconds of a token ≥ bytes read / bytes that memory gives a second                    (1)
Shapes    RUNGS: name -> what is different · climb(…) yields (name, tokens a second)
Pitfalls  The first tokens of a rung touch memory for the first time, and are not counted.
          Weights of four bits are other weights: this ladder is about speed, and what it costs in
          surprise is scripts/perplexity.py's to say.
          A machine whose other core works for somebody else shows no rung for threads.
Cost      Half a minute for a model of 135 million parameters: the table is the lesson. SmolLM2 on
          two cores of an AMD EPYC: 3.0, 10.5, 44.7, 127, 203, 271 and 267 tokens a second, rung by
          rung. The last one gains nothing there; where memory comes from the system page by page,
          it may.
Try       build it    a rung for a cache of 16 bits.
          break it    the rungs in another order: int4 first, with plain operations after it.
          measure it  python scripts/bench_decode.py MODEL --ladder
See       the lessons cache, packed, fused and threads · Williams et al. 2009 (roofline)
"""

import time
from statistics import median

import numpy as np

from .. import threads
from ..tensor import no_grad
from .cache import KVCache

RUNGS = {
    "float32": "plain operations; the whole text is read again for every token",
    "cache": "keys and values of what was read are kept",
    "fused": "a token is one call, not five hundred",
    "int8": "a weight is one byte",
    "int4": "a weight is half a byte",
    "threads": "every core reads its share",
    "static buffers": "what a token works on is there already",
}
KINDS = {"fused": "F32", "int8": "Q8_0", "int4": "Q4_0"}
WARMUP = 2  # tokens


def climb(model, pack, anew, prompt=64, new=16, progress=iter):
    """Yield (name, tokens a second) for every rung.

    model: of floats. pack(model, kind): the same in blocks of that kind, and a token of it is one
    fused call. anew(): lets go of the memory that this kernel works on. progress wraps the names.
    """
    ids = np.random.default_rng(0).integers(0, model.config.vocabulary, (1, prompt))
    now, cores = model, threads.count()
    for name in progress(RUNGS):
        if name in KINDS:
            now = pack(model, KINDS[name])
        every, static = name in ("threads", "static buffers"), name == "static buffers"
        with threads.limit(cores if every else 1):
            if name == "float32":
                speed = write(now, ids, 2, None)
            else:
                cache = KVCache(*now.cache(1, prompt + WARMUP + new))
                speed = write(now, ids, new, cache, (lambda: None) if static else anew)
        yield name, speed


def write(model, ids, new, cache, before=lambda: None):
    """Tokens a second, by the median of `new` of them behind ids (1, T); cache: None for none.

    before: called for every token.
    """
    seconds = []
    with no_grad():
        logits = model.next_logits(ids, cache=cache).numpy()
        for _ in range(WARMUP + new):
            token = logits.argmax(axis=1)[:, None]
            ids = np.concatenate([ids, token], axis=1)
            start = time.perf_counter()
            before()
            logits = model.next_logits(ids if cache is None else token, cache=cache).numpy()
            seconds.append(time.perf_counter() - start)
    return 1 / median(seconds[WARMUP:])
