"""Lesson 4.49 · Embedder: texts as points, and a search by meaning

Needs bert, open_models, published, tokenizer_file. Used by scripts/embed.py.

Idea      Two texts that say the same in other words share few words. But a model trained for it
          gives them vectors that point the same way, and then a search is one product: the question
          with all notes, the largest first. This lesson reads such a model as it is published,
          cuts texts into tokens, reads many of them at once, and hands out their vectors.
Math      likeness of two texts = e·f, the cosine, since |e| = |f| = 1                           (1)
Shapes    N texts -> embeddings (N, C) float32; a search: (N,) likenesses
Pitfalls  A text longer than the model reads is cut: what comes later is not in the vector. Long
          notes are cut into paragraphs first (scripts/embed.py does that).
          The cosine of unrelated texts is not 0 but about 0.1: only the order means something.
          Texts of like length are read together, or most of the work would be padding.
Cost      One pass a text; a search among N is N·C products, far less.
Try       build it    the k nearest of every note: a map of one's own notes.
          break it    read every text with the padding counted. Which test notices?
          measure it  python scripts/embed.py MODEL --text "a question" --notes FOLDER
See       Reimers, Gurevych 2019 · sentence-transformers, all-MiniLM-L6-v2 (model card)
"""

import numpy as np

from tinygrad_edu.data.open_models import located
from tinygrad_edu.models.bert import Bert, BertConfig
from tinygrad_edu.models.published import check_only, check_size, number, read_json, read_weights
from tinygrad_edu.tokenizers.tokenizer_file import load_tokenizer

AT_ONCE = 32  # texts in a batch
LONGEST = 256  # tokens of a text, where the folder says nothing else
ONLY = {"hidden_act": ("gelu",), "position_embedding_type": ("absolute",)}
# Published name: name in lesson bert, of all weights of a block, and of those outside.
INSIDE = {
    "attention.self.query": "query", "attention.self.key": "key", "attention.self.value": "value",
    "attention.output.dense": "output", "attention.output.LayerNorm": "norm_1",
    "intermediate.dense": "wide", "output.dense": "narrow", "output.LayerNorm": "norm_2"}
OUTSIDE = {
    "embeddings.word_embeddings": "words", "embeddings.position_embeddings": "places",
    "embeddings.token_type_embeddings": "kinds", "embeddings.LayerNorm": "norm"}
UNUSED = "pooler.", "cls.", "embeddings.position_ids"  # heads of other uses


class Embedder:
    """A BERT with its tokenizer; longest: tokens of a text that it reads."""

    def __init__(self, model, tokenizer, longest):
        self.model, self.tokenizer = model, tokenizer
        self.longest = min(longest, model.config.context)

    def ids(self, text):
        """A text as a list of ids, cut to what the model reads; the last one stays the last."""
        found = self.tokenizer.encode(text).tolist()
        if len(found) > self.longest:
            found = found[: self.longest - 1] + found[-1:]
        return found

    def embed(self, texts, progress=iter):
        """Vectors of length 1, (N, C) float32. progress wraps the batches, as tqdm does."""
        rows = [self.ids(text) for text in texts]
        found = np.empty((len(rows), self.model.config.width), np.float32)
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        for low in progress(range(0, len(order), AT_ONCE)):
            places = order[low : low + AT_ONCE]
            lengths = [len(rows[place]) for place in places]
            ids = np.zeros((len(places), max(lengths)), np.int32)
            for row, place in zip(ids, places, strict=True):
                row[: len(rows[place])] = rows[place]
            found[places] = self.model.embed(ids, lengths)
        return found


def load_embedder(folder):
    """The Embedder in a published folder, or of a name. OSError or ValueError in one sentence."""
    folder = located(folder)
    published, weights = read_json(folder / "config.json"), read_weights(folder, UNUSED)
    try:
        if published.get("model_type") != "bert":
            raise ValueError(f"its architecture is {published.get('model_type')!r}, and sentences "
                             "are embedded by bert alone here")
        config = bert_config(published)
        weights = from_published(weights)
        check_size(config, weights.values())
        model = Bert(config, None)                 # without numbers: they are copied in
        model.load_state(weights)
        longest = LONGEST
        if (folder / "sentence_bert_config.json").is_file():
            longest = number(read_json(folder / "sentence_bert_config.json"), "max_seq_length", 256)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    return Embedder(model.eval(), load_tokenizer(folder), longest)


def bert_config(published):
    """The configuration of a BERT."""
    check_only(published, ONLY)
    names = {"vocabulary": "vocab_size", "context": "max_position_embeddings",
             "layers": "num_hidden_layers", "heads": "num_attention_heads", "width": "hidden_size",
             "hidden": "intermediate_size", "kinds": "type_vocab_size"}
    numbers = {here: number(published, there) for here, there in names.items()}
    return BertConfig(**numbers, eps=number(published, "layer_norm_eps", 1e-12, float))


def from_published(weights):
    """The weights by the names of lesson bert; ValueError for a name that is not known."""
    state = {}
    for published, array in weights.items():
        name = published.removeprefix("bert.")
        part, _, leaf = name.rpartition(".")
        if part.startswith("encoder.layer."):
            _, _, layer, inside = part.split(".", 3)
            here = f"blocks.{layer}.{INSIDE.get(inside, inside)}"
        else:
            here = OUTSIDE.get(part, part)
        state[f"{here}.{leaf}"] = array
    return state
