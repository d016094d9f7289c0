"""Lesson 4.22 · Rank files: BPE without its merges

Needs atomic, bpe, characters, presplit. Used by tokenizer_file.

Idea      The package `tiktoken` keeps byte-level BPE in the shortest form there is: every token in
          base64, and its rank. No merges: whenever two neighbours joined are a token, they may be
          joined, and the lowest rank goes first. Which two pieces made a token can be recovered:
          write the token with the tokens of lower rank only, and two pieces remain. How a text is
          cut and what the special tokens are stands in the program, not in the file, so it has to
          be known from the file's name.
Math      merge of token t with rank r: encode(t) by the tokens of rank < r = (left, right)      (1)
          a piece that is a token as a whole is that token, whether merges lead to it or not     (2)
Shapes    a line: base64(token), space, rank · cl100k_base: 100,256 lines, ranks 0 … 100,255
Pitfalls  Ranks are ids, but ids may have holes: cl100k_base has none between rank 100,255 and its
          first special token, 100,257. A hole gets a name here that no text has.
          The order of the first 256 lines is that of lesson byte_characters, not 0 … 255. Llama-3's
          tokenizer.model is a rank file too. Llama-2's file of the same name is not. Tokens that
          merges cannot reach exist: Llama-3 has many. By (2) they still occur, as a piece.
Cost      (1) for 100,000 tokens takes seconds in Python: a token of n bytes costs n² look-ups at
          most.
Try       build it    encode by ranks alone, without merges; compare its ids and its time.
          break it    drop (2). Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.tiktoken_file
See       openai/tiktoken, tiktoken/load.py, tiktoken_ext/openai_public.py · meta-llama/llama3,
          llama/tokenizer.py
"""

import base64
import binascii
from pathlib import Path

from tinygrad_edu.files.atomic import write_text
from tinygrad_edu.tokenizers.bpe import BPETokenizer, train_bpe
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.tokenizers.presplit import python_library

MIDDLES = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")  # to fill in the middle of a text
LLAMA3 = ("begin_of_text", "end_of_text", "reserved_special_token_0", "reserved_special_token_1",
          "reserved_special_token_2", "reserved_special_token_3", "start_header_id",
          "end_header_id", "reserved_special_token_4", "eot_id")
LLAMA3 += tuple(f"reserved_special_token_{k}" for k in range(5, 251))
# What the program knows of a file by its name: the pattern, and special tokens.
KNOWN = {
    "r50k_base.tiktoken": ("gpt2", {END_OF_TEXT: 50_256}),
    "p50k_base.tiktoken": ("gpt2", {END_OF_TEXT: 50_256}),
    "cl100k_base.tiktoken": ("gpt4", {
        END_OF_TEXT: 100_257, **{name: 100_258 + k for k, name in enumerate(MIDDLES)},
        "<|endofprompt|>": 100_276}),
    "tokenizer.model": ("llama3", {f"<|{name}|>": 128_000 + k for k, name in enumerate(LLAMA3)}),
}


def is_rank_file(data):
    """Whether bytes begin like a rank file."""
    line = data[:4096].split(b"\n")[0].rstrip(b"\r").split(b" ")
    return len(line) == 2 and line[1].isdigit() and decoded(line[0]) is not None


def decoded(text):
    """The bytes of a base64, or None."""
    try:
        return base64.b64decode(text, validate=True) or None
    except (binascii.Error, ValueError):
        return None


def read_ranks(path, pattern=None, special=None):
    """A BPETokenizer from a rank file.

    pattern, special: how a text is cut, and name → id; for files of KNOWN names they are known.
    ValueError where the file is damaged, or of an unknown name and pattern is not given.
    """
    known = KNOWN.get(Path(path).name)
    if pattern is None and known is None:
        raise ValueError("a rank file does not say how a text is cut, and this name is not known: "
                         f"{', '.join(KNOWN)}; name the pattern (gpt2, gpt4, llama3 …)")
    pattern, names = pattern or known[0], known[1] if special is None and known else special or {}
    ranks = parsed_ranks(Path(path).read_bytes())
    merges = recover_merges(ranks)
    token_of = {rank: token for token, rank in ranks.items()}
    names = {name: index for name, index in names.items() if index not in token_of}
    token_of |= {index: name.encode() for name, index in names.items()}
    if max(token_of) >= 2 * len(token_of) + 256:
        raise ValueError(f"its ranks go up to {max(token_of)} for {len(token_of)} tokens")
    for hole in set(range(max(token_of))) - token_of.keys():
        names[f"<|no token {hole}|>"] = hole
        token_of[hole] = f"<|no token {hole}|>".encode()
    tokens = [token_of[index] for index in range(len(token_of))]
    return BPETokenizer(tokens, merges, names, pattern=pattern, ignore_merges=True)  # (2)


def parsed_ranks(data):
    """dict from token to rank."""
    ranks = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        parts = line.split()
        token = decoded(parts[0]) if len(parts) == 2 and parts[1].isdigit() else None
        if token is None or token in ranks or len(parts[1]) > 9:
            raise ValueError(f"line {number} is no base64 with a rank, or a token is there twice")
        ranks[token] = int(parts[1])
    if len(set(ranks.values())) < len(ranks) or not ranks:
        raise ValueError("two of its tokens have the same rank, or there are none")
    return ranks


def recover_merges(ranks):
    """Pairs of ids in order of rank, by (1); tokens that no two others make have none."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda pair: pair[1]):
        parts = written(token, ranks, rank) if len(token) > 1 else ()
        if len(parts) == 2 and all(part in ranks for part in parts):
            merges.append((ranks[parts[0]], ranks[parts[1]]))
    return merges


def written(token, ranks, below):
    """A token as the parts that ranks lower than `below` make of it."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [(ranks.get(left + right, below), i)
                 for i, (left, right) in enumerate(zip(parts, parts[1:], strict=False))]
        rank, i = min(pairs)
        if rank >= below:
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def write_ranks(tokenizer, path):
    """Write a BPETokenizer as a rank file; special tokens and the pattern are not part of it.

    ValueError where ids are not the order of the merges: a rank file has only one order.
    """
    if not isinstance(tokenizer, BPETokenizer):
        raise ValueError("a rank file is for byte-level BPE; write a tokenizer.json")
    reserved = set(tokenizer.special.values())
    ranks = {token: k for k, token in enumerate(tokenizer.tokens) if k not in reserved}
    if recover_merges(ranks) != list(tokenizer.merges):
        raise ValueError("the ids of this tokenizer are not in the order of its merges, so a rank "
                         "file would give other tokens; write a tokenizer.json")
    lines = [f"{base64.b64encode(token).decode()} {rank}" for token, rank in ranks.items()]
    write_text(path, "\n".join([*lines, ""]))


if __name__ == "__main__":
    from time import perf_counter

    trained = train_bpe(python_library()[::8], 4096)
    ranks = {token: k for k, token in enumerate(trained.tokens[:-1])}
    start = perf_counter()
    same = recover_merges(ranks) == trained.merges
    print(f"tokens={len(ranks)} recover_ms={1e3 * (perf_counter() - start):.0f} same={same}")
