"""Lesson 4.35 · A tokenizer in a GGUF file

Needs added, bpe, byte_characters, hf_json, hf_steps, merges_file, pipeline, presplit,
sentencepiece, unicode. Used by tests/tokenizers/test_gguf_tokenizer.py.

Idea      GGUF keeps a whole model in one file, the tokenizer too, as a dozen named fields: the list
          of tokens, what kind of token each is, merges or scores. Here these fields, as a plain
          dict, become a tokenizer, and a tokenizer becomes such fields. Two kinds cover most
          models: "gpt2", byte-level BPE, its tokens spelt in visible characters, and "llama",
          SentencePiece's BPE, where a score for each token takes the place of merges.
Math      kind llama: of all neighbours whose joined text is a token, that with the best score is
          joined first; of equal ones the leftmost                                               (1)
          where there are merges only, score(token) = −(rank of the merge that makes it): then
          (1) replays the merges                                                               (2)
Shapes    tokenizer.ggml.tokens (V,) text · token_type (V,) int: 1 normal, 2 unknown, 3 control,
          4 added by a user, 5 unused, 6 byte · scores (V,) float · merges: "left right"
Pitfalls  The field "pre" is the name of a cut in llama.cpp's source, not a pattern: smollm,
          llama-bpe, qwen2 … What is not known here is refused.
          No field has a normalizer: Qwen's NFC is lost on the way. Neither llama.cpp nor
          `from_fields` applies it; the tokenizer.json of the same model does.
          A token of type 4 is spelt as it is, and one of type 1 in visible characters. Fields that
          are absent have defaults that depend on the kind: llama puts <s> in front.
Cost      One pass over the tokens; merges are looked up once.
Try       build it    the kind "bert" (WordPiece: ▁ begins a word where BERT's ## continues one).
          break it    give all tokens of kind llama the score 0. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.gguf_tokenizer
See       ggml-org/ggml, docs/gguf.md, "Tokenizer" · ggml-org/llama.cpp, src/llama-vocab.cpp
"""

from tinygrad_edu.tokenizers.added import Added
from tinygrad_edu.tokenizers.bpe import BPETokenizer, train_bpe
from tinygrad_edu.tokenizers.byte_characters import hidden, visible
from tinygrad_edu.tokenizers.hf_json import build_pipeline
from tinygrad_edu.tokenizers.hf_steps import BYTES, part_of_pattern
from tinygrad_edu.tokenizers.merges_file import numbered
from tinygrad_edu.tokenizers.pipeline import Pipeline
from tinygrad_edu.tokenizers.sentencepiece import CharacterBPE
from tinygrad_edu.tokenizers.unicode import as_bytes

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)
# The names of llama.cpp for a cut, and ours. It has many names for the same cut.
PATTERN_OF = {"gpt-2": "gpt2", "gpt2": "gpt2", "smollm": "smollm2", "llama-bpe": "llama3",
              "llama3": "llama3", "llama-v3": "llama3", "qwen2": "qwen2"}
PRE_OF = {"gpt2": "gpt-2", "smollm2": "smollm", "llama3": "llama-bpe", "qwen2": "qwen2"}
GGML = "tokenizer.ggml."  # what the names of all fields begin with
# Steps of Llama-2's chain, as a tokenizer.json has them.
SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
DECODER_OF_LLAMA = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
    {"type": "Fuse"}]}


# ---- reading ------------------------------------------------------------------------------------


def from_fields(fields):
    """The tokenizer that the fields tokenizer.ggml.* of a GGUF file describe.

    fields: a dict from the full name of a field to its value; others are passed over. ValueError,
    in one sentence, where one is missing or damaged, or the kind is not supported.
    """
    kind = fields.get(GGML + "model")
    tokens = row(fields, "tokens", str)
    types = row(fields, "token_type", int, [NORMAL] * len(tokens))
    if len(types) != len(tokens):
        raise ValueError(f"{len(tokens)} tokens cannot have {len(types)} types")
    added = [Added(text, index, special=kind_of == CONTROL) for index, (text, kind_of)
             in enumerate(zip(tokens, types, strict=True)) if kind_of in (CONTROL, USER) and text]
    if kind == "gpt2":
        return from_gpt2(fields, tokens, added)
    if kind == "llama":
        return from_llama(fields, tokens, types, added)
    raise ValueError(f"a GGUF tokenizer of kind {kind!r} is not read here; gpt2 and llama are")


def row(fields, name, kind, default=None):
    """A field that is a list of one type; ValueError where it is missing or something else."""
    values = fields.get(GGML + name, default)
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise ValueError(f"the field {GGML}{name} is missing, or no list of {kind.__name__}")
    return values


def from_gpt2(fields, texts, added):
    """Kind gpt2: a BPETokenizer, or a Pipeline around one where tokens stand around a text.

    Merges and pattern as in a tokenizer.json; llama.cpp takes whole pieces first for Llama-3 only.
    """
    pre = fields.get(GGML + "pre")
    if pre not in PATTERN_OF:
        raise ValueError(f"its text is cut as {pre!r}; known here are {', '.join(PATTERN_OF)}")
    names = {token.content for token in added}
    tokens = [as_bytes(text) if text in names else hidden(text) for text in texts]
    pairs = [tuple(merge.split(" ")) for merge in row(fields, "merges", str)]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"the field {GGML}merges has a merge that is not a pair of tokens")
    ids = {text: index for index, text in enumerate(texts)}
    pattern = PATTERN_OF[pre]
    model = BPETokenizer(tokens, numbered(pairs, ids), {token.content: token.id for token in added},
                         pattern=pattern, ignore_merges=pattern == "llama3")
    after = template_of(fields, texts, False)
    if after is None and all(token.special for token in added):
        return model
    return build_pipeline(model, added, {"pre_tokenizer": part_of_pattern(pattern),
                                         "post_processor": after, "decoder": BYTES})


def from_llama(fields, texts, types, added):
    """Kind llama: BPE by scores, over characters, as (1) has it.

    Spaces become ▁ and come back when decoding; the space that is put in front of a text goes away
    again. Unknown characters are written as bytes.
    """
    scores = row(fields, "scores", float)
    guess = types.index(UNKNOWN) if UNKNOWN in types else None
    unknown = fields.get(GGML + "unknown_token_id", guess)
    model = CharacterBPE([as_bytes(text) for text in texts], None, unknown, fuse_unknown=True,
                         byte_fallback=True, scores=scores)
    steps, decoder = [SPACE], DECODER_OF_LLAMA
    if fields.get(GGML + "add_space_prefix", True):
        steps = [{"type": "Prepend", "prepend": "▁"}, SPACE]
        strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
        decoder = decoder | {"decoders": [*decoder["decoders"], strip]}
    return build_pipeline(model, added, {
        "normalizer": {"type": "Sequence", "normalizers": steps}, "decoder": decoder,
        "post_processor": template_of(fields, texts, True)})


def template_of(fields, texts, begins):
    """A TemplateProcessing with what the fields put around a text; None for nothing.

    begins: whether the kind begins a text with its first token where no field says so.
    """
    names = []
    for flag, which, default in (("add_bos_token", "bos", begins), ("add_eos_token", "eos", False)):
        index = fields.get(f"{GGML}{which}_token_id")
        wanted = fields.get(GGML + flag, default)
        if wanted and not (type(index) is int and 0 <= index < len(texts)):
            raise ValueError(f"{GGML}{flag} asks for a token that {which}_token_id does not name")
        names.append(texts[index] if wanted else None)
    if names == [None, None]:
        return None
    first, last = ([{"SpecialToken": {"id": name, "type_id": 0}}] if name else [] for name in names)
    whole = [{"Sequence": {"id": which, "type_id": 0}} for which in "AB"]
    tokens = {name: {"id": name, "ids": [texts.index(name)], "tokens": [name]}
              for name in names if name}
    return {"type": "TemplateProcessing", "single": [*first, whole[0], *last],
            "pair": [*first, whole[0], *last, *first, whole[1], *last], "special_tokens": tokens}


# ---- writing ------------------------------------------------------------------------------------


def to_fields(tokenizer):
    """The fields tokenizer.ggml.* of a tokenizer, as a dict; ValueError for one that has none.

    Ids that a program wants to know (eos_token_id …) are the caller's to add: a tokenizer does not
    know which of its special tokens means what. What its template puts around a text is written.
    """
    model = getattr(tokenizer, "model", tokenizer)
    if isinstance(tokenizer, Pipeline):
        added = tokenizer.added
    else:
        added = [Added(name, index, special=True) for name, index in tokenizer.special.items()]
    types = [NORMAL] * tokenizer.vocab_size
    for token in added:
        types[token.id] = CONTROL if token.special else USER
    if isinstance(model, BPETokenizer):
        fields = gpt2_fields(tokenizer, model, types)
    elif isinstance(model, CharacterBPE):
        fields = llama_fields(tokenizer, model, types)
    else:
        raise ValueError("GGUF has byte-level BPE and SentencePiece's BPE; this tokenizer is of "
                         f"another kind, {type(model).__name__}")
    fields |= {"token_type": types} | around_fields(getattr(tokenizer, "template", None))
    return {GGML + name: value for name, value in fields.items()}


def gpt2_fields(tokenizer, model, types):
    """The fields of byte-level BPE; ValueError for a chain that GGUF has no words for.

    Tokens are spelt in visible characters, special ones as they are.
    """
    cutters = getattr(tokenizer, "cutters", None)
    if model.pattern not in PRE_OF or cutters or getattr(tokenizer, "normalizers", None):
        raise ValueError(f"GGUF has no name for this chain; it knows the cuts {', '.join(PRE_OF)}, "
                         "and no normalizer")
    texts = [visible(token) if kind == NORMAL else token.decode()
             for token, kind in zip(tokenizer.tokens, types, strict=True)]
    merges = [f"{texts[left]} {texts[right]}" for left, right in model.merges]
    return {"model": "gpt2", "pre": PRE_OF[model.pattern], "tokens": texts, "merges": merges}


def llama_fields(tokenizer, model, types):
    """The fields of BPE over characters; types is filled in where the kind has more of them.

    Whether a space comes first is found by trying: the steps are asked for one letter.
    """
    scores = list(model.scores or [0.0] * model.vocab_size)
    if model.scores is None:
        made = (model.ids[model.tokens[a] + model.tokens[b]] for a, b in model.merges)
        ranks = {token: rank for rank, token in reversed(list(enumerate(made)))}
        scores = [float(-ranks.get(index, len(ranks))) for index in range(model.vocab_size)]  # (2)
    for index, token in enumerate(model.tokens):
        if token.startswith(b"<0x") and len(token) == 6 and types[index] == NORMAL:
            types[index] = BYTE
    fields = {"model": "llama", "tokens": [token.decode() for token in tokenizer.tokens]}
    if model.unknown is not None:
        types[model.unknown] = UNKNOWN
        fields["unknown_token_id"] = model.unknown
    fields["add_space_prefix"] = tokenizer.normalize("x") == "▁x"
    return fields | {"scores": scores + [0.0] * (tokenizer.vocab_size - len(scores))}


def around_fields(template):
    """The fields for one token before a text and one behind; ValueError for other templates.

    The two are called bos and eos there: begin and end of sequence.
    """
    row = template.single if template else (("A", 0),)
    names = [what for what, _ in row]
    at = names.index("A")
    if at > 1 or len(names) - at > 2:
        raise ValueError("GGUF can put one token before a text and one behind, not more")
    fields = {"add_bos_token": at == 1, "add_eos_token": len(names) - at == 2}
    if at == 1:
        fields["bos_token_id"] = names[0]
    if len(names) - at == 2:
        fields["eos_token_id"] = names[-1]
    return fields


if __name__ == "__main__":
    from time import perf_counter

    from tinygrad_edu.tokenizers.presplit import python_library

    fields = to_fields(train_bpe(python_library()[::8], 4096))
    start = perf_counter()
    again = from_fields(fields)
    print(f"tokens={again.vocab_size} read_ms={1e3 * (perf_counter() - start):.0f}")
