"""Lesson 4.18 · Pipeline: from a text to numbers in five steps, and every number's place in it

Needs added, bpe, characters, memory, presplit, unicode. Used by hf_json.

Idea      Published tokenizers are chains. Added tokens are cut out first, as they are spelt. What
          lies between is normalized (lower case, one form for é, ▁ for a space), cut into pieces,
          and each piece is written in tokens by a model: BPE, WordPiece, Unigram, a list of words.
          A template puts events around the result: [CLS] … [SEP]. Decoding goes through a chain of
          its own, which puts spaces back. Each step may change the text, so each says where its
          characters came from: only so can an answer found in tokens be underlined in the text.
Math      source of a chain: after a step that took character k from s(k), and one before it that
          took it from r(k), the source is r(s(k)); −1, from nowhere, stays −1                (1)
          a token of characters i … j − 1 lies in the text at [source(i), source(j − 1) + 1)  (2)
Shapes    text of N characters → ids (M,) int32, offsets (M, 2) int64 in characters of the text
Pitfalls  Encoding is not joining: encode(a) + encode(b) ≠ encode(a + b), and a chain with a
          normalizer does not give the text back: decode(encode("É")) may be "e".
          A token can be part of a character, so the offsets of two tokens may overlap.
Cost      One pass of each step over the text. Offsets cost an array of the length of the text for
          each step, so `encode` does without. A byte-level BPE without a normalizer is passed the
          whole text: nothing of the chain is felt.
Try       build it    a normalizer that writes curly quotes straight; `trace` says what it moved.
          break it    leave out the −1 in (1). Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.pipeline
See       huggingface/tokenizers, documentation, "The tokenization pipeline" · Devlin et al. 2019,
          section 3 ([CLS] and [SEP])
"""


import numpy as np

from tinygrad_edu.memory import empty
from tinygrad_edu.tokenizers.added import BARE, Added, Finder, extended
from tinygrad_edu.tokenizers.characters import ChainStream, Tokenizer, decode_utf8
from tinygrad_edu.tokenizers.unicode import as_bytes

CACHED = 1 << 16  # pieces that a pipeline remembers


class Pipeline(Tokenizer):
    """A tokenizer as a chain of steps.

    model        has `tokens` and `encode_pieces(text, spans)`, `locate(text, spans)`, as lesson
                 words has; or it is a tokenizer of bytes that cuts for itself, as BPETokenizer
    added        list of Added; those with an id beyond the model's tokens lengthen the list
    normalizers  steps of lesson normalize: step(text) and step.trace(text)
    cutters      steps of lesson pretokenize: step.cut(text, spans, at_start)
    decoders     steps of lesson decoders, or None: tokens are then joined with spaces, as the
                 package does. A model that cuts for itself needs none: its tokens are bytes.
    trim         offsets leave out spaces at the ends of tokens; "first": but not the very first
    """

    def __init__(self, model, added=(), normalizers=(), cutters=(), template=BARE, decoders=None,
                 trim=False):
        self.model, self.added = model, list(added)
        self.normalizers, self.cutters = list(normalizers), list(cutters)
        self.template, self.decoders, self.trim = template, decoders, trim
        tokens = extended(model.tokens, self.added)
        super().__init__(tokens, {token.content: token.id for token in self.added if token.special})
        self.byte_level = hasattr(model, "encode_ordinary")
        early = [token for token in self.added if not token.normalized]
        self._early = Finder(early, str)
        late = [token for token in self.added if token.normalized]
        self._late = Finder(late, self.normalize)
        self._lengths = np.array([len(token) for token in tokens], np.int64)
        self._pieces = {}  # piece -> ids, for models that know single pieces only

    def normalize(self, text):
        """The text after all normalizers."""
        for step in self.normalizers:
            text = step(text)
        return text

    # ---- encoding --------------------------------------------------------------------------

    def encode(self, text, allowed_special=(), disallowed_special=(), wrap=True):
        """Ids, (M,) int32, of a str or bytes; with `wrap`, the template's tokens around them.

        Special tokens are named as for Tokenizer.encode; added tokens that are not special are
        always recognised. ValueError for bytes that are not UTF-8, unless the model takes any.
        """
        text, allowed = self._prepared(text, allowed_special, disallowed_special)
        ids = joined([ids for ids, _ in self._walk(text, allowed, False)], empty(0, np.int32))
        return self.template.around(ids)[0] if wrap else ids

    def encode_ordinary(self, text):
        """Ids of any text, special tokens and template left out."""
        return self.encode(text, wrap=False)

    def encode_pair(self, text, other, allowed_special=()):
        """(ids, kinds): two texts in one row, as the template joins them, (M,) int32 both."""
        rows = [self.encode(each, allowed_special, wrap=False) for each in (text, other)]
        return self.template.around(*rows)

    def encode_with_offsets(self, text, allowed_special=(), disallowed_special=(), wrap=True):
        """(ids (M,) int32, offsets (M, 2)): token m stands for text[offsets[m, 0]:offsets[m, 1]].

        Offsets count characters of a str, or of what bytes decode to. Tokens of the template get
        (0, 0): they stand for nothing in the text.
        """
        text, allowed = self._prepared(text, allowed_special, disallowed_special)
        found = list(self._walk(text, allowed, True))
        ids = joined([ids for ids, _ in found], empty(0, np.int32))
        offsets = joined([offsets for _, offsets in found], np.zeros((0, 2), np.int64))
        if self.trim:
            offsets = self._trimmed(ids, offsets)
        if not wrap:
            return ids, offsets
        around = np.zeros((ids.size + self.template.room, 2), np.int64)
        first = self.template.before
        around[first : first + ids.size] = offsets
        return self.template.around(ids)[0], around

    def _prepared(self, text, allowed, disallowed):
        """(str, frozenset of allowed names); ValueError for what must not be in the text."""
        if isinstance(text, str):
            data = as_bytes(text)
        else:
            data, keep = bytes(text), self.byte_level and not (self.normalizers or self.cutters)
            text = data.decode("utf-8", "surrogateescape") if keep else decode_utf8(data)
        return text, self._allowed(data, allowed, disallowed)

    def _walk(self, text, allowed, located):
        """Yield (ids, offsets or None) of the parts of a text, in order."""
        for begin, end, token in self._early.cut(text, allowed):
            if token:
                yield one(token, *(self._bare(text, begin, end) if self.trim else (begin, end)))
                continue
            part, source = self._normalized(text[begin:end], begin, located)
            for first, last, late in self._late.cut(part, allowed):
                here = source[first:last] if located else None
                if late:
                    yield one(late, *(bounds(here, 0, last - first) if located else (0, 0)))
                else:
                    yield self._part(part[first:last], here, begin == first == 0)

    def _bare(self, text, begin, end):
        """Where an added token lies without the white space that it has swallowed."""
        swallowed = len(text[begin:end]) - len(text[begin:end].lstrip())
        if not (self.trim == "first" and begin == 0 and swallowed == 1):  # as in `_trimmed`
            begin += swallowed
        return begin, begin + len(text[begin:end].rstrip())

    def _normalized(self, part, begin, located):
        """(text, source) of a part that begins at a character; source None unless `located`."""
        if not located:
            return self.normalize(part), None
        source = np.arange(begin, begin + len(part))
        for step in self.normalizers:
            part, moved = step.trace(part)
            source = followed(source, moved)
        return part, source

    def _part(self, part, source, at_start):
        """(ids, offsets or None) of text without added tokens."""
        spans = np.array([[0, len(part)]])
        for step in self.cutters:
            part, spans, moved = step.cut(part, spans, at_start)
            source = None if source is None else followed(source, moved)
        data = part.encode("utf-8", "surrogateescape")
        begins = first_bytes(part, len(data))
        spans = begins[spans]
        if source is None:
            return self._ids(data, spans), None
        ids, covered = self._located(data, spans)
        # Half a character counts as all of it.
        first = np.searchsorted(begins, covered[:, 0], "right") - 1
        last = np.searchsorted(begins, covered[:, 1], "left")
        return ids, bounds(source, first, last)

    def _ids(self, data, spans):
        """The model's ids of these pieces."""
        if not self.byte_level:
            return self.model.encode_pieces(data, spans)
        if not self.cutters:
            return self.model.encode_ordinary(data)
        known, ids = self._pieces, []
        for low, high in spans.tolist():
            piece = data[low:high]
            if piece not in known:
                if len(known) > CACHED:
                    known.clear()
                known[piece] = self.model.encode_piece(piece)
            ids += known[piece]
        return np.array(ids, np.int32)

    def _located(self, data, spans):
        """The model's ids and the bytes that each stands for, (M, 2)."""
        if not self.byte_level:
            return self.model.locate(data, spans)
        if not self.cutters:
            spans = np.array([[0, len(data)]])
            found = [self.model.encode_ordinary(data)]
        else:
            found = [self._ids(data, span[None]) for span in spans]
        rows = [np.zeros((0, 2), np.int64)]
        for ids, (low, _) in zip(found, spans, strict=True):
            ends = low + np.cumsum(self._lengths[ids])
            rows.append(np.stack([ends - self._lengths[ids], ends], axis=1))
        return joined(found, empty(0, np.int32)), np.concatenate(rows)

    def _trimmed(self, ids, offsets):
        """Offsets without the spaces at both ends of each token, as far as there is something."""
        tokens = [self.tokens[index] for index in ids]
        before = np.array([len(token) - len(token.lstrip(b" ")) for token in tokens], np.int64)
        after = np.array([len(token) - len(token.rstrip(b" ")) for token in tokens], np.int64)
        low, high = offsets.T
        if self.trim == "first":  # a single space in front of a text may have been put there
            before[(low == 0) & (before == 1)] = 0
        low = np.minimum(low + before, high)
        return np.stack([low, np.where(high >= after, np.maximum(high - after, low), high)], axis=1)

    # ---- decoding --------------------------------------------------------------------------

    def decode_bytes(self, ids, skip_special=False):
        """The bytes of these ids, after all decoders. ValueError for an id out of range."""
        ids = self._checked(ids).ravel()
        if skip_special:
            ids = ids[~np.isin(ids, list(self.special.values()))]
        if self.byte_level and self.vocab_size == self.model.vocab_size:
            return self.model.decode_bytes(ids)
        tokens = [self.tokens[index] for index in ids.tolist()]
        if self.byte_level:
            return b"".join(tokens)
        if self.decoders is None:
            return b" ".join(tokens)
        for decoder in self.decoders:
            tokens = decoder(tokens)
        return b"".join(tokens)

    def decode(self, ids, skip_special=False):
        """The text of these ids; `skip_special` leaves special tokens out."""
        return self.decode_bytes(ids, skip_special).decode("utf-8", "replace")

    def stream(self):
        """An object with push(id) and finish(), for printing tokens as they are generated."""
        return super().stream() if self.byte_level else ChainStream(self)


def as_pipeline(tokenizer):
    """A Pipeline with the same ids, for any tokenizer of this folder: it knows offsets."""
    if isinstance(tokenizer, Pipeline):
        return tokenizer
    names = tokenizer.special.items()
    return Pipeline(tokenizer, [Added(name, index, special=True) for name, index in names])


def one(token, begin, end):
    """An added token as (ids, offsets)."""
    return np.array([token.id], np.int32), np.array([[begin, end]])


def joined(rows, empty_row):
    """The rows in one array; of none, the empty one."""
    return np.concatenate(rows) if rows else empty_row


def followed(source, moved):
    """The source of two steps, (1); moved: where the second one's characters came from, or None."""
    return source if moved is None else np.append(source, -1)[moved]


def bounds(source, first, last):
    """Where the characters first … last − 1 lie in the text, (…, 2); (2)."""
    return np.stack([source[first], source[last - 1] + 1], axis=-1)


def first_bytes(text, size):
    """The place of each character's first byte, (N + 1,); size: how many bytes the text takes."""
    if size == len(text):
        return np.arange(size + 1)
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
    lengths[(points >= 0xDC80) & (points <= 0xDCFF)] = 1  # a byte that was no UTF-8
    return np.append(0, np.cumsum(lengths))


if __name__ == "__main__":
    from time import perf_counter

    from tinygrad_edu.tokenizers.bpe import train_bpe
    from tinygrad_edu.tokenizers.presplit import python_library

    text = b"".join(python_library()[::8]).decode("utf-8", "replace")
    chain = Pipeline(train_bpe(text, 4096))
    chain.encode(text)
    start = perf_counter()
    ids = chain.encode(text)
    middle = perf_counter()
    _, offsets = chain.encode_with_offsets(text)
    end = perf_counter()
    size = len(text.encode()) / 1e6
    print(
        f"mb={size:.1f} tokens={ids.size} encode_mb_per_s={size / (middle - start):.1f} "
        f"with_offsets_mb_per_s={size / (end - middle):.1f} last={offsets[-1].tolist()}"
    )
