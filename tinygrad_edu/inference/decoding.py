"""Lesson 5.8 · Decoding: a text, token by token

Needs cache, sampling, tensor. Used by story_score, scripts/generate.py, scripts/train_gpt.py,
scripts/score_python.py, scripts/names.py.

Idea      A model says how likely each token is to come next. To write, ask it, choose one (lesson
          sampling), put it at the end, and ask again. What was read stays in a cache (lesson
          cache), so that each further token costs one position. Instead of choosing at once, beam
          search carries the k likeliest beginnings along: it finds texts that are likelier as a
          whole, and that are therefore rather dull.
Math      beam search: of all continuations of k texts by one token, go on with the k that have
          the largest  Σ ln p(tokenₜ | tokens before it);  ended ones are ranked by  Σ / nᵃ     (1)
Shapes    ids: a list, or B lists; logits (B, V). Several prompts: ids (B, T), T the longest, zeros
          behind the shorter rows, lengths (B,)
Pitfalls  A model has a context: from there on, a text is continued from its last `context` tokens.
          Then every token has another position than before, and what the cache holds is worthless:
          the window is read anew for every token.
          A stop string may come in pieces: "\\n\\nUs" and "er:". A piece that could be the begin of
          one is held back until that is decided.
          Sums of logarithms of more tokens are lower: without the exponent a of (1) beam search
          prefers to end soon.
Cost      Reading a prompt of T tokens: one pass, in chunks, so that memory does not grow with T².
          Every further token: one position, and the keys and values of all before it.
Try       build it    stop when the last 20 tokens repeat the 20 before them.
          break it    forget `keep` in beam search. Is the result worse, or is it only other text?
          measure it  python scripts/generate.py RUN --max-new 100, with and without --no-cache
See       Lowerre 1976 (beam search) · Wu et al. 2016, section 7 (its length) · Graves 2012
"""

import numpy as np

from ..tensor import no_grad
from .cache import AT_ONCE, CACHES
from .sampling import draw

CHUNK = AT_ONCE  # tokens of a prompt that are read at once


class Reading:
    """Logits of what follows texts that grow at their ends; a cache holds what was read of them.

    model: anything with config.context and next_logits(ids (B, T)) -> (B, V). It is read with a
    cache where it has `cache` (lesson gpt), `cached` is not False and the context is long enough.
    cached: True, False, or one of CACHES (lesson cache).
    """

    def __init__(self, model, texts, max_new, cached=True):
        self.model, self.texts = model, [[int(i) for i in text] for text in texts]
        self.context, self.cache = model.config.context, None
        longest = max(map(len, self.texts))
        if cached and hasattr(model, "cache") and longest <= self.context:
            room = min(self.context, longest + max_new)
            like = next(iter(model.parameters())).data
            kind = CACHES["float" if cached is True else cached]
            self.cache = kind(*model.cache(len(texts), room), dtype=like.dtype, like=like)

    def turn_to(self, text):
        """Read another text instead of the only one: how many tokens of it need no reading.

        These are the ones with which both begin.
        """
        old, text, same = self.texts[0], [int(i) for i in text], 0
        self.texts = [text]
        if self.cache is None or len(text) > self.cache.room:
            self.cache = None
            return 0
        known = min(len(text) - 1, self.cache.lengths[0])  # the last one is read for its logits
        while same < known and old[same] == text[same]:
            same += 1
        self.cache.back_to(same)
        return int(self.cache.lengths[0])

    def logits(self):
        """Of the token after each text, (B, V)."""
        if max(map(len, self.texts)) > self.context:
            self.cache = None                      # every position is another one from now on
        with no_grad():
            return self._whole() if self.cache is None else self._behind()

    def _whole(self):
        """Read every text from its begin, or as much of it as the context holds."""
        texts = [text[-self.context :] for text in self.texts]
        if len(texts) == 1:
            return self.model.next_logits(np.array(texts)).numpy()
        return self.model.next_logits(*ragged(texts)).numpy()

    def _behind(self):
        """Read what is not in the cache yet: all of it at first, then one token a text.

        Many tokens are read some at a time. A row's logits come with the chunk that it ends in.
        """
        read = self.cache.lengths
        ids, lengths = ragged([text[n:] for text, n in zip(self.texts, read, strict=True)])
        found = [None] * len(ids)
        for low in range(0, ids.shape[1], CHUNK):
            part = ids[:, low : low + CHUNK]
            counts = np.clip(lengths - low, 0, part.shape[1])
            ending = np.flatnonzero((counts > 0) & (lengths - low <= part.shape[1]))
            if not len(ending):
                self.model.hidden(part, self.cache)
                self.cache.advance(counts - part.shape[1])
                continue
            logits = self.model.next_logits(part, counts, cache=self.cache).numpy()
            if len(ending) == len(ids):            # as always but at first: nothing to copy
                return logits
            for row in ending:
                found[row] = logits[row]
        return np.stack(found)

    def keep(self, rows):
        """Go on with these texts only; a row may be named several times."""
        self.texts = [list(self.texts[row]) for row in rows]
        if self.cache is not None and rows:
            self.cache.keep(rows)


def generate(model, ids, max_new, random, stop=(), cached=True, reading=None, **choice):
    """Yield up to max_new token ids that continue `ids`, one by one.

    A token in `stop` ends the text and is not yielded.

    model: as for Reading. reading: one that has read another text, of which it goes on with what
    both begin with (a conversation). random: a numpy generator. choice: greedy, temperature, top_k,
    top_p, min_p, penalty (lesson sampling).
    """
    if not len(ids):
        raise ValueError("nothing to continue: give at least one token")
    if reading is None:
        reading = Reading(model, [ids], max_new, cached)
    else:
        reading.turn_to(ids)
    for _ in range(max_new):
        text = reading.texts[0]
        token = draw(reading.logits()[0], random, seen=text, **choice)
        if token in stop:
            return
        text.append(token)
        yield token


def generate_many(model, prompts, max_new, randoms, stop=(), progress=iter, cached=True, **choice):
    """Continue several prompts at once: a list of token ids for each, what `generate` would write.

    Rows of different length stand left-aligned in one array, with zeros behind them, which a causal
    model does not see from the positions before; each row's next token is read at its own last
    position. A row that has ended leaves the batch.

    model: as for Reading, with next_logits(ids (B, T), lengths (B,)). randoms: a numpy generator
    for each prompt, so that a text does not depend on which others are drawn with it. progress
    wraps the range of steps, as tqdm does.
    """
    if not all(len(prompt) for prompt in prompts):
        raise ValueError("nothing to continue: give at least one token in each prompt")
    written = [[] for _ in prompts]
    reading = Reading(model, prompts, max_new, cached) if len(prompts) else None
    active = list(range(len(prompts)))
    for _ in progress(range(max_new)):
        if not active:
            break
        going_on = []
        for place, z in enumerate(reading.logits()):
            row, text = active[place], reading.texts[place]
            token = draw(z, randoms[row], seen=text, **choice)
            if token not in stop:
                text.append(token)
                written[row].append(token)
                going_on.append(place)
        if len(going_on) < len(active):
            reading.keep(going_on)
            active = [active[place] for place in going_on]
    return written


def ragged(rows):
    """Rows of ids as one array (B, T), zeros behind the short ones, and their lengths (B,)."""
    lengths = np.array([len(row) for row in rows])
    ids = np.zeros((len(rows), lengths.max()), np.int32)
    for place, row in zip(ids, rows, strict=True):
        place[: len(row)] = row
    return ids, lengths


def beam_search(model, ids, max_new, beams=4, stop=(), exponent=1.0, cached=True):
    """The likeliest continuations of `ids` that were found, best first: (tokens, Σ ln p), (1).

    It ends when `beams` texts have come to a token in `stop`, which is counted and not part of
    them, or after max_new tokens. exponent: a of (1); 0 compares the sums themselves.
    """
    if not len(ids):
        raise ValueError("nothing to continue: give at least one token")
    reading = Reading(model, [ids], max_new, cached)
    begin = len(ids)
    sums, ended = np.zeros(1), []
    for step in range(1, max_new + 1):
        z = reading.logits().astype(np.float64)
        z -= z.max(axis=1, keepdims=True)
        z -= np.log(np.exp(z).sum(axis=1, keepdims=True))                              # (k, V)
        total = (sums[:, None] + z).ravel()
        parents, tokens, sums = [], [], []
        for place in np.argsort(-total, kind="stable")[: beams * (1 + len(stop))]:
            parent, token = divmod(int(place), z.shape[1])
            if token in stop:
                text = reading.texts[parent][begin:]
                ended.append((total[place] / step**exponent, text, total[place]))
            elif len(parents) < beams:
                parents.append(parent)
                tokens.append(token)
                sums.append(total[place])
        reading.keep(parents)
        sums = np.array(sums)
        for text, token in zip(reading.texts, tokens, strict=True):
            text.append(token)
        if len(ended) >= beams or not parents:
            break
    if len(ended) < beams:
        length = max(1, max_new) ** exponent
        for text, total in zip(reading.texts, sums, strict=True):
            ended.append((total / length, text[begin:], total))
    ended.sort(key=lambda found: -found[0])
    return [(text, float(total)) for _, text, total in ended[:beams]]


def text_of(tokenizer, tokens, stops=()):
    """Yield the text of tokens, piece by piece, up to the first of the strings `stops`."""
    def pieces():
        stream = tokenizer.stream()
        for token in tokens:
            yield stream.push(token)
        yield stream.finish()
    return until(pieces(), stops)


def until(pieces, stops):
    """Yield pieces of text until one of the strings `stops` comes, which is left out.

    What may turn out to be the begin of one is held back until the next pieces tell.
    """
    stops = [stop for stop in stops if stop]       # the empty one would be everywhere
    held = ""
    for piece in pieces:
        held += piece
        found = [held.find(stop) for stop in stops if stop in held]
        if found:
            yield held[: min(found)]
            return
        begins = [stop[:n] for stop in stops for n in range(len(stop))]
        unsure = max([len(begin) for begin in begins if held.endswith(begin)], default=0)
        sure = len(held) - unsure
        yield held[:sure]
        held = held[sure:]
    yield held
