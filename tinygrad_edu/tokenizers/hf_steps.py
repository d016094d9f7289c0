"""Lesson 4.19 · The steps of a tokenizer.json

Needs added, decoders, normalize, patterns, pretokenize, sentencepiece. Used by hf_json.

Idea      A tokenizer.json describes a chain by four parts: normalizer, pre-tokenizer,
          post-processor, decoder. Each is an object with a "type" and its settings, or a "Sequence"
          of such objects. Here every type that GPT-2, Llama, Qwen, SmolLM2, BERT, MiniLM and T5
          need is one line of a table: the settings with their defaults, and the step they make.
          What is not in a table is refused by its name, because almost the right ids are worse than
          none.
Math      a description without Sequence: flat([s₁, [s₂, [s₃]], s₄]) = [s₁, s₂, s₃, s₄]          (1)
          pattern of a byte-level chain, where this folder has a scanner for it:                (2)
            ByteLevel → gpt2 · Digits, ByteLevel → smollm2 ·
            Split by a published pattern, ByteLevel without one → the pattern's name
Shapes    {"type": "Digits", "individual_digits": true} → a step of lesson pretokenize, and so on
Pitfalls  The same type means different things in different parts: ByteLevel cuts, joins or trims
          offsets; Metaspace puts spaces in or takes them out.
          A setting that is absent has a default, and defaults changed over the years: older files
          say add_prefix_space where newer ones say prepend_scheme. A setting that is unknown here
          may change ids, so it is refused too.
          `trim_offsets` moves offsets only; the other post-processors add tokens to every text.
Cost      Reading: nothing that can be felt.
Try       build it    a line for the pre-tokenizer "CharDelimiterSplit" of the package.
          break it    let `settings` pass unknown names over. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.tokenizer_file
See       huggingface/tokenizers, documentation of the components
"""

import base64
from reprlib import repr as short  # a damaged file may hold a long text

from tinygrad_edu.tokenizers import decoders, normalize, pretokenize
from tinygrad_edu.tokenizers.added import BARE, Template
from tinygrad_edu.tokenizers.patterns import PATTERNS
from tinygrad_edu.tokenizers.sentencepiece import Charsmap

# What a Sequence calls its steps, in each of the four parts.
LISTS = ("normalizers", "pretokenizers", "processors", "decoders")


def flat(part):
    """The steps of a part as a list of dicts, (1); of None none. ValueError for what is none."""
    if part is None:
        return []
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise ValueError(f"{short(part)} is no step of a tokenizer file: it has no type")
    if part["type"] != "Sequence":
        return [part]
    steps = next((part[name] for name in LISTS if isinstance(part.get(name), list)), None)
    if steps is None:
        raise ValueError("a Sequence of the tokenizer file has no list of steps")
    return sum(map(flat, steps), [])


def make(table, step, where):
    """The step that a dict describes; ValueError for one that is not in the table.

    table: type → (function, known), known as in `settings`: what it holds are, in its order, the
    arguments of the function.
    """
    kind = step["type"]
    if kind not in table:
        raise ValueError(f"the {where} {short(kind)} is not supported; known: {', '.join(table)}")
    function, known = table[kind]
    return function(*settings(step, known).values())


def settings(step, known):
    """The settings of a step; ValueError for one that is missing, unknown, or of another type.

    known: setting → its default, or its type where it must be there.
    """
    kind, values = step["type"], {}
    for name in step.keys() - known.keys() - {"type"}:
        raise ValueError(f"{kind} has the setting {short(name)}, which is not known here")
    for name, default in known.items():
        if name not in step and isinstance(default, type):
            raise ValueError(f"{kind} lacks its setting {name!r}")
        value = values[name] = step.get(name, default)
        wanted = default if isinstance(default, type) else type(default)
        if default is None and isinstance(value, bool | None):
            continue
        if type(value) is not wanted:
            raise ValueError(f"{kind} has {short(value)} as its setting {name!r}")
    return values


def pattern_of(pattern):
    """(text, whether it is a regular expression) of {"String": text} or {"Regex": text}."""
    for name in ("String", "Regex"):
        if isinstance(pattern.get(name), str):
            return pattern[name], name == "Regex"
    raise ValueError(f"{short(pattern)} is no pattern: neither a String nor a Regex")


# Each table: type → (function, {setting: its default, or its type where it has to be there}).
# The settings stand in the order of the function's arguments.

# ---- normalizers ------------------------------------------------------------------------------


def _bert_normalizer(clean, chinese, accents, lower):
    return normalize.bert(clean, chinese, lower if accents is None else accents, lower)


NORMALIZERS = {
    **{name: (lambda name=name: normalize.Form(name), {})
       for name in ("NFC", "NFD", "NFKC", "NFKD")},
    "Lowercase": (normalize.Lower, {}),
    "StripAccents": (normalize.strip_accents, {}),
    "BertNormalizer": (_bert_normalizer, {"clean_text": True, "handle_chinese_chars": True,
                                          "strip_accents": None, "lowercase": True}),
    "Replace": (lambda *given: normalize.Replace(*replaced(*given)),
                {"pattern": dict, "content": str}),
    "Prepend": (normalize.Prepend, {"prepend": str}),
    "Strip": (normalize.Strip, {"strip_left": True, "strip_right": True}),
    "Precompiled": (lambda text: Charsmap(from_base64(text)), {"precompiled_charsmap": str}),
}


def from_base64(text):
    """The bytes of a base64."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one
        raise ValueError("the precompiled_charsmap is no base64: the file is damaged") from None


def replaced(pattern, content):
    """(pattern, content, regex) of a Replace."""
    text, regex = pattern_of(pattern)
    return text, content, regex


# ---- pre-tokenizers ---------------------------------------------------------------------------


def _behaviour(name):  # MergedWithNext, as files write it, as lesson pretokenize does
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


def _split(pattern, behavior, invert):
    text, regex = pattern_of(pattern)
    return pretokenize.Pattern(text, _behaviour(behavior), invert, regex)


def _metaspace(step, replacement, prepend_scheme, split, add_prefix_space, str_rep):
    if len(replacement) != 1:
        raise ValueError(f"Metaspace replaces spaces by one character, not by {short(replacement)}")
    return step(replacement, prepend_scheme if add_prefix_space else "never", split)


METASPACE = {"replacement": "▁", "prepend_scheme": "always", "split": True,
             "add_prefix_space": True, "str_rep": "▁"}  # the last two in older files
BYTE_LEVEL = {"add_prefix_space": True, "trim_offsets": True, "use_regex": True}
CUTTERS = {
    "Whitespace": (pretokenize.Words, {}),
    "WhitespaceSplit": (pretokenize.whitespace_split, {}),
    "BertPreTokenizer": (pretokenize.bert_cut, {}),
    "Metaspace": (lambda *given: _metaspace(pretokenize.Metaspace, *given), METASPACE),
    "Digits": (pretokenize.digits, {"individual_digits": False}),
    "Punctuation": (lambda name: pretokenize.Class(pretokenize.punctuation(), _behaviour(name)),
                    {"behavior": "Isolated"}),
    "Split": (_split, {"pattern": dict, "behavior": str, "invert": False}),
    "ByteLevel": (lambda space, trim, regex: pretokenize.ByteLevel(space, regex), BYTE_LEVEL),
}


# Byte-level chains that lesson patterns has a scanner for. The package reads the regex of GPT-4
# otherwise than its authors meant ("{1,3}+", "$"), so it is written here in words that it shares.
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT4 = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
        r"\s+(?![\s\S])|\s*[\r\n]|\s+(?!\S)|\s")


def _by_regex(regex):
    split = {"type": "Split", "behavior": "Isolated", "invert": False}
    return [split | {"pattern": {"Regex": regex}}, BYTES]


CHAINS = {
    "gpt2": [BYTES | {"use_regex": True}],
    "smollm2": [{"type": "Digits", "individual_digits": True}, BYTES | {"use_regex": True}],
    "llama3": _by_regex(PATTERNS["llama3"]),
    "qwen2": _by_regex(PATTERNS["qwen2"]),
    "gpt4": _by_regex(GPT4),
    "none": [BYTES],
}


def pattern_of_chain(part):
    """The name of the pattern that a pre-tokenizer stands for, (2); None for any other."""

    def compared(step):  # all settings, but for one that moves offsets only
        known = CUTTERS[step["type"]][1] if step["type"] in CUTTERS else step
        return step["type"], settings(step, known) | {"trim_offsets": None}

    steps = [compared(step) for step in flat(part)]
    return next((n for n, chain in CHAINS.items() if list(map(compared, chain)) == steps), None)


def part_of_pattern(name):
    """The pre-tokenizer of a file that stands for a pattern."""
    chain = CHAINS[name]
    return {"type": "Sequence", "pretokenizers": chain} if len(chain) > 1 else chain[0]


def cutters_of(model, part):
    """The cuts of a pre-tokenizer; none where a byte-level BPE makes this cut by itself."""
    if getattr(model, "pattern", None) and pattern_of_chain(part) == model.pattern:
        return []
    steps = flat(part)
    if any(step["type"] == "ByteLevel" for step in steps[:-1]):
        raise ValueError("its pre-tokenizer cuts again after ByteLevel, where bytes are no text")
    return [make(CUTTERS, step, "pre-tokenizer") for step in steps]


# ---- post-processors ---------------------------------------------------------------------------


def read_template(part):
    """(Template, trim) of a post-processor, as Pipeline takes them.

    Of several, the last template counts, as in the package: one adds tokens, and others, like
    ByteLevel, only move offsets. ValueError for a type that is not known.
    """
    template, trim = BARE, False
    for step in flat(part):
        kind = step["type"]
        values = settings(step, BYTE_LEVEL) if kind == "ByteLevel" else {}
        if kind in ("BertProcessing", "RobertaProcessing"):
            values = {"trim_offsets": True, "add_prefix_space": True} if kind[0] == "R" else {}
            values = settings(step, values | {"sep": list, "cls": list})
            template = classic(values["cls"], values["sep"], kind[0] == "R")
        elif kind == "TemplateProcessing":
            values = settings(step, {"single": list, "pair": list, "special_tokens": dict})
            rows = [read_row(values[name], values["special_tokens"]) for name in ("single", "pair")]
            template = Template(*rows)
        elif kind != "ByteLevel":
            raise ValueError(f"the post-processor {short(kind)} is not supported")
        if values.get("trim_offsets"):
            trim = "first" if values["add_prefix_space"] else True
    return template, trim


def classic(cls, sep, roberta):
    """The templates of BERT, [CLS] A [SEP] B [SEP], and of RoBERTa, <s> A </s></s> B </s>."""
    end = token_id(sep)
    single = ((token_id(cls), 0), ("A", 0), (end, 0))
    more = ((end, 0), ("B", 0), (end, 0)) if roberta else (("B", 1), (end, 1))
    return Template(single, single + more)


def token_id(pair):
    """The id of ["[SEP]", 102]."""
    if len(pair) != 2 or type(pair[1]) is not int:
        raise ValueError(f"{short(pair)} is no token of a post-processor")
    return pair[1]


def read_row(row, tokens):
    """One row of a TemplateProcessing as Template has it.

    A special token of a template is a name that stands for a list of ids, most often one.
    """
    found = []
    for item in row:
        kind, value = next(iter(item.items())) if isinstance(item, dict) and item else ("", None)
        if kind not in ("Sequence", "SpecialToken") or not isinstance(value, dict):
            raise ValueError(f"{short(item)} is neither a text nor a token of a template")
        name, type_id = value.get("id"), value.get("type_id", 0)
        ids = [name] if kind == "Sequence" else (tokens.get(name) or {}).get("ids")
        if not isinstance(ids, list) or type(type_id) is not int or not all(
                type(index) is int or index in ("A", "B") for index in ids):
            raise ValueError(f"{short(item)} of a template has no id that can be used")
        found += [(index, type_id) for index in ids]
    return tuple(found)


# ---- decoders ----------------------------------------------------------------------------------


DECODERS = {
    "ByteLevel": (lambda *unused: decoders.ByteLevel(), BYTE_LEVEL),
    "WordPiece": (decoders.WordPiece, {"prefix": "##", "cleanup": True}),
    "Metaspace": (lambda *given: _metaspace(decoders.Metaspace, *given), METASPACE),
    "ByteFallback": (decoders.ByteFallback, {}),
    "Fuse": (decoders.Fuse, {}),
    "Strip": (decoders.Strip, {"content": str, "start": int, "stop": int}),
    "Replace": (lambda *given: decoders.Replace(*replaced(*given)),
                {"pattern": dict, "content": str}),
    "BPEDecoder": (decoders.EndOfWord, {"suffix": "</w>"}),
}


def read_decoders(part):
    """The steps of a decoder; None where the file has none: tokens are then joined with spaces."""
    if part is None:
        return None
    return [make(DECODERS, step, "decoder") for step in flat(part)]
