"""Lesson 4.47 · A GGUF file as a model, and back

Needs gguf, gpt, llama, published. Used by opened.

Idea      The weights in a GGUF file are those of the safetensors folder that it was made from, with
          three differences: shorter names, numbers in blocks of a few bits, and, for the family of
          Llama, another order of the rows of W_q and W_k. The reason for the last one: there are
          two ways to say which numbers of a head are turned together, neighbours or the two halves
          (lesson rope). The first Llama code had neighbours, the published safetensors have halves,
          llama.cpp computes with neighbours. Each conversion moves rows, so that the products q·k
          stay what they were.
Math      row 2i + j of a head in the file = row i + j·D/2 here,   i < D/2, j = 0, 1           (1)
Shapes    W_q (H·D, C), W_k (G·D, C) · settings: `llama.block_count` and others, by architecture
Pitfalls  Without (1) a model answers fluently and worse: the loss of a sentence is 4.7 where it
          should be 3.8. No shape is wrong, nothing is raised.
          Qwen's rows are not moved, though its other names are the same.
          A file without output.weight has a tied head. One with rope_freqs.weight has stretched
          rotary frequencies, as Llama 3 does: a number for each to be divided by.
Cost      All weights become float32 here: eight times the bytes of a file of 4 bits. Kernels that
          multiply blocks as they are come with lesson quant.
Try       build it    the names of another architecture.
          break it    leave out (1), and ask for the loss of a text: scripts/perplexity.py.
          measure it  python scripts/inspect_model.py FILE
See       ggml, docs/gguf.md · llama.cpp, convert_hf_to_gguf.py (permute)
"""

from tinygrad_edu.files.gguf import load_gguf, save_gguf
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.models.published import check_size, number

LLAMAS = {"llama": {}, "qwen2": {"offsets": True}, "qwen3": {"head_norms": True}}
# name there: name here, without "weight" and "bias"
OUTSIDE = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
INSIDE = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
          "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
          "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
          "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm",
          "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
OF_GPT = {"token_embd": "wte", "position_embd": "wpe", "output_norm": "ln_f"}
IN_GPT = {"attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj",
          "ffn_norm": "ln_2", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}


def load_gguf_model(path, llama=Llama):
    """(model in evaluation mode, the open file). ValueError or OSError in one sentence.

    llama: the class of a Llama, which may take the weights from the file by a `fill` of its own.
    """
    file = load_gguf(path)
    try:
        kind = file.settings.get("general.architecture")
        if "token_embd.weight" not in file:
            raise ValueError("the tensor token_embd.weight is missing")
        if kind == "gpt2":
            make, config = GPT, gpt_config(file)
        elif isinstance(kind, str) and kind in LLAMAS:
            make, config = llama, llama_config(file, kind)
        else:
            raise ValueError(f"its architecture is {kind!r}; known are gpt2, {', '.join(LLAMAS)}")
        check_size(config, file.entries.values())
        model = make(config, None)                 # without numbers: they are copied in
        model.fill(file) if hasattr(model, "fill") else fill(model, file)
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    return model.eval(), file


def pairs(outside, inside, block, layers):
    """(name there, name here) of all weights that a model of this family may have."""
    for there, here in outside.items():
        yield there, here
    for layer in range(layers):
        for there, here in inside.items():
            yield f"blk.{layer}.{there}", f"{block}.{layer}.{here}"


def names_there(model):
    """(name in the file, heads, tensor) of every weight of the model.

    heads: how many the rows are of, where the file has them in another order; 0 where it does not.
    """
    config = model.config
    if isinstance(model, Llama):
        table = pairs(OUTSIDE, INSIDE, "layers", config.layers)
    else:
        table = pairs(OF_GPT, IN_GPT, "h", config.layers)
    there = {here: name for name, here in table}
    heads = {}
    if isinstance(model, Llama) and architecture(config) == "llama":
        heads = {"q_proj": config.heads, "k_proj": config.groups}
    for name, tensor in model.named_parameters():
        part, _, leaf = name.rpartition(".")
        layer = part.rpartition(".")[2]
        yield f"{there[part]}.{leaf}", heads.get(layer, 0), tensor


def fill(model, file):
    """Copy every weight from the file, one after the other. ValueError where one does not fit."""
    for name, heads, tensor in names_there(model):
        must_have(file, name, tensor.shape)
        if heads:
            tensor.assign(in_halves(file[name], heads))
        else:
            file.read(name, tensor.data)


def must_have(file, name, shape):
    """The entry of a tensor. ValueError where it is not there, or has another shape."""
    if name not in file:
        raise ValueError(f"the tensor {name} is missing")
    entry = file.entries[name]
    if entry.shape != shape:
        raise ValueError(f"the tensor {name} has the shape {entry.shape}, and this model {shape}")
    return entry


def in_halves(w, heads):
    """Rows from neighbours to halves, (1) from left to right."""
    pairs_of_rows = w.reshape(heads, -1, 2, *w.shape[1:])
    return pairs_of_rows.swapaxes(1, 2).reshape(w.shape)


def in_neighbours(w, heads):
    """Rows from halves to neighbours, (1) from right to left."""
    halves = w.reshape(heads, 2, -1, *w.shape[1:])
    return halves.swapaxes(1, 2).reshape(w.shape)


def architecture(config):
    """The word that a file has for a Llama of this configuration."""
    if config.offsets:
        return "qwen2"
    return "qwen3" if config.head_norms else "llama"


def gpt_config(file):
    """The configuration of a GPT-2 from the settings."""
    names = "context_length", "block_count", "attention.head_count", "embedding_length"
    numbers = [number(file.settings, f"gpt2.{name}") for name in names]
    V = file.entries["token_embd.weight"].shape[0]
    return GPTConfig(V, *numbers)


def llama_config(file, kind):
    """The configuration of a Llama or a relative from the settings."""
    # Every setting of a Llama begins with the word for its family.
    def ask(name, default=None, as_=int):
        if as_ is str:
            return file.settings.get(f"{kind}.{name}", default)
        return number(file.settings, f"{kind}.{name}", default, as_)

    heads, width = ask("attention.head_count"), ask("embedding_length")
    window = f"{kind}.attention.sliding_window"
    return LlamaConfig(
        vocabulary=file.entries["token_embd.weight"].shape[0], context=ask("context_length"),
        layers=ask("block_count"), heads=heads, groups=ask("attention.head_count_kv", heads),
        width=width, hidden=ask("feed_forward_length"),
        head_width=ask("attention.key_length", width // heads),
        eps=ask("attention.layer_norm_rms_epsilon", 1e-5, float),
        base=ask("rope.freq_base", 10000.0, float), tied="output.weight" not in file,
        window=number(file.settings, window) if window in file.settings else None,
        stretch=stretch(file, ask), **LLAMAS[kind])


def stretch(file, ask):
    """The settings of lesson rope_scaling. ask: as in llama_config.

    Llama 3 has its numbers in a tensor, other models name a way.
    """
    way = ask("rope.scaling.type", "none", str)
    if "rope_freqs.weight" in file:
        return {"kind": "divided", "by": file["rope_freqs.weight"].tolist()}
    if way == "none":
        return {"kind": "default"}
    found = {"kind": way, "factor": ask("rope.scaling.factor", as_=float)}
    if way == "yarn":
        found["context"] = ask("rope.scaling.original_context_length")
    return found


def save_gguf_model(path, model, tokenizer=None, kind="F32"):
    """Write a Llama or a GPT. tokenizer: settings of its own (lesson gguf_tokenizer).

    kind: "F32", "F16", "Q8_0", "Q4_0" or "Q4_1", for the matrices; vectors stay F32. Or a kind for
    each name in the file.
    """
    settings = describe(model)
    tensors, kinds = {}, {}
    for name, heads, tensor in names_there(model):
        array = tensor.numpy()
        tensors[name] = in_neighbours(array, heads) if heads else array
        kinds[name] = "F32" if array.ndim < 2 else kind[name] if isinstance(kind, dict) else kind
    save_gguf(path, settings | (tokenizer or {}), tensors, kinds)


def describe(model):
    """What a file says of a model. ValueError where its readers would pass over some of it."""
    if isinstance(model, Llama):
        return llama_settings(model.config)
    return gpt_settings(model.config)


def llama_settings(config):
    """What a file says of a Llama. ValueError for what its readers would pass over."""
    if config.stretch != {"kind": "default"} or config.window:
        raise ValueError("a stretched rotary context and a window are not written to GGUF here")
    if config.offsets and config.head_norms:
        raise ValueError("no architecture of GGUF has offsets and norms of q and k")
    kind = architecture(config)
    found = {
        "context_length": config.context, "embedding_length": config.width,
        "block_count": config.layers, "feed_forward_length": config.hidden,
        "attention.head_count": config.heads, "attention.head_count_kv": config.groups,
        "attention.key_length": config.head_width, "attention.value_length": config.head_width,
        "rope.dimension_count": config.head_width, "rope.freq_base": float(config.base),
        "attention.layer_norm_rms_epsilon": float(config.eps), "vocab_size": config.vocabulary}
    return {"general.architecture": kind} | {f"{kind}.{name}": v for name, v in found.items()}


def gpt_settings(config):
    """What a file says of a GPT-2.

    Its epsilon has no setting here: it is always that of the published one.
    """
    found = {"context_length": config.context, "embedding_length": config.width,
             "block_count": config.layers, "feed_forward_length": 4 * config.width,
             "attention.head_count": config.heads, "attention.layer_norm_epsilon": 1e-5}
    return {"general.architecture": "gpt2"} | {f"gpt2.{name}": v for name, v in found.items()}
