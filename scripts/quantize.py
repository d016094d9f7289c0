"""Write a model with fewer bits, and say what that costs.

    python scripts/quantize.py MODEL --to q8_0 --out small.gguf
    python scripts/quantize.py MODEL --to q4_0 --out small.gguf --keep "token_embd.*,blk.0.*"
    python scripts/quantize.py MODEL --study         a table of ways to round: lesson study

MODEL is a run folder, a folder of safetensors or a .gguf file of floats. The new file is read by
all scripts here that take a model, and by llama.cpp. Perplexity is that of the beginning of a text,
by default of the help texts in Python's library, before and after; a few thousand tokens tell it to
some tenths of a percent. Speed is that of writing.
"""

import importlib.util
import math
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinygrad_edu.data.open_models import located
from tinygrad_edu.files.gguf import load_gguf
from tinygrad_edu.inference.decoding import generate
from tinygrad_edu.models.gguf_model import names_there, save_gguf_model
from tinygrad_edu.models.opened import open_model
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.nn.layers import Linear
from tinygrad_edu.quant.files import kinds_of, rounded_in
from tinygrad_edu.quant.study import study
from tinygrad_edu.tensor import no_grad
from tinygrad_edu.tokenizers.gguf_tokenizer import GGML, to_fields
from tinygrad_edu.train.program import program

KINDS = "q8_0", "q4_0", "q4_1", "f16"
ENOUGH = 8  # tokens of a study: a part of them judges, the rest calibrates


@dataclass
class Settings:
    """What to write, and how to judge it."""

    model: Path = option(help="run folder, folder of safetensors, .gguf file, or name",
                         positional=True)
    to: str = option("q8_0", help="what the matrices become", choices=KINDS)
    out: Path | None = option(None, "the .gguf file to write")
    study: bool = option(False, "write nothing: try the ways of lesson study, one after another")
    keep: str = option("", "tensors that stay float32: names as in the file, with * and commas")
    again: bool = option(False, "round a model that is rounded already a second time")
    text: Path | None = option(None, "what perplexity is measured on")
    tokens: int = option(4096, "of the text; 0 for all of it", low=0)
    window: int = option(512, "tokens that are read together", low=2)
    new: int = option(32, "tokens to write for the speed", low=1)
    float32: bool = option(False, "judge the new file with its weights widened, so that rounding "
                           "them is all that differs")


def main():
    """Measure, write, measure again."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if settings.study:
            study_of(settings)
            return
        fields = fields_of(settings)
        before = open_model(settings.model, widen=True)
        patterns = [word.strip() for word in settings.keep.split(",") if word.strip()]
        weights = {name: tensor.data for name, _, tensor in names_there(before.model)}
        kinds = kinds_of(weights, settings.to.upper(), patterns)
        fields = fields or fields_from(before)
        ids = text_of(settings, before)
        size = weights_of(located(settings.model))
        judged = [measure(settings, before, ids, open_model(settings.model))]
        save_gguf_model(settings.out, before.model, fields, kinds)
        del before, weights                        # two models at a time are not needed
        after = open_model(settings.out, settings.float32)
        judged.append(measure(settings, after, ids))
    sizes = size, settings.out.stat().st_size
    names = "before", "after"
    print(f"{'':<8}{'MB':>9}{'perplexity':>12}{'tokens/s':>10}")
    for name, bytes_, (ppl, speed) in zip(names, sizes, judged, strict=True):
        print(f"{name:<8}{bytes_ / 1e6:>9.1f}{ppl:>12.3f}{speed:>10.1f}")
    kept = sum(kind == "F32" for kind in kinds.values())
    if patterns:
        left = [name for name in kinds if any(fnmatchcase(name, pattern) for pattern in patterns)]
        print("left as they are:", ", ".join(left))
    (first, _), (last, _) = judged
    print(f"tokens={len(ids)} kept={kept} bytes={sizes[1]} ratio={sizes[1] / sizes[0]:.3f} "
          f"rise={last / first - 1:.5f}")


def study_of(settings):
    """The table of lesson study. The tokens behind those that judge calibrate static ladders."""
    if settings.out is not None:
        raise ValueError("--study writes nothing: leave out --out")
    opened = open_model(settings.model, widen=True)
    if not any(isinstance(module, Linear) for _, module in opened.model.walk()):
        raise ValueError(f"{settings.model} has no linear layers to round")
    ids = text_of(settings, opened)
    if len(ids) < ENOUGH:
        raise ValueError(f"--study needs {ENOUGH} tokens, and here are {len(ids)}: raise --tokens, "
                         "or give a longer --text")
    cut = len(ids) * 3 // 4

    def judge(part=ids[:cut]):
        return perplexity(opened.model, part, settings.window)

    exact = judge()
    print(f"{'':<28}{'bits':>6}{'perplexity':>12}{'rise':>9}")
    print(f"{'as it is':<28}{'':>6}{exact:>12.3f}")
    pairs = []
    for name, bits, found in study(opened.model, judge, lambda: judge(ids[cut:])):
        print(f"{name:<28}{bits:>6.2f}{found:>12.3f}{found / exact - 1:>9.2%}", flush=True)
        pairs.append(f"{name.replace(', ', '_').replace(' ', '_')}={found / exact - 1:.5f}")
    print(f"tokens={cut}", *pairs)


def weights_of(path):
    """Bytes of a model, in one file or in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.glob("*.safetensors"))


def fields_of(settings):
    """The tokenizer's settings of a GGUF file, None for other models; ValueError where it is no
    good source."""
    path = located(settings.model)
    if settings.out is None:
        raise ValueError("give the file to write: --out small.gguf, or --study to write none")
    if settings.out.suffix != ".gguf":
        raise ValueError(f"--out {settings.out}: the name of a GGUF file ends in .gguf")
    if path.exists() and settings.out.exists() and settings.out.samefile(path):
        raise ValueError("--out is the model itself: give the new file another name")
    if not path.is_file():
        return None
    file = load_gguf(path)
    rounded = rounded_in(entry.kind for entry in file.entries.values())
    if rounded and not settings.again:
        raise ValueError(f"{path} is rounded already ({', '.join(rounded)}): take the floats that "
                         "it was made of, or round it a second time with --again")
    return {name: value for name, value in file.settings.items() if name.startswith("tokenizer.")}


def fields_from(opened):
    """The same settings, from a tokenizer that was read from elsewhere."""
    fields = to_fields(opened.tokenizer)
    if opened.ends:
        fields[GGML + "eos_token_id"] = opened.ends[0]
    if opened.begins:
        fields |= {GGML + "bos_token_id": opened.begins[0], GGML + "add_bos_token": True}
    if opened.template:
        fields["tokenizer.chat_template"] = opened.template
    return fields


def text_of(settings, opened):
    """The ids that perplexity is measured on."""
    path = settings.text or Path(importlib.util.find_spec("pydoc_data.topics").origin)
    try:
        text = path.read_text(encoding="utf-8")
        ids = np.array([*opened.begins, *opened.tokenizer.encode(text)])
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    except ValueError as error:
        raise ValueError(f"the text {path} (choose another with --text): {error}") from None
    ids = ids[: settings.tokens or len(ids)]
    if len(ids) < 2:
        raise ValueError(f"{path} has fewer than two tokens: nothing to expect")
    return ids


def perplexity(model, ids, window):
    """What the model makes of a text, read in windows."""
    total, window = 0.0, min(window, model.config.context)
    with no_grad():
        for start in tqdm(range(0, len(ids) - 1, window), unit="window", leave=False):
            part = ids[None, start : start + window + 1]
            total += model.loss(part[:, :-1], part[:, 1:], reduction="sum").item()
    return math.exp(min(total / (len(ids) - 1), 700))


def measure(settings, opened, ids, writer=None):
    """(perplexity, tokens a second) of a model; writer: the same, as it is opened to write."""
    found = perplexity(opened.model, ids, settings.window)
    model = (writer or opened).model
    room = max(1, min(settings.new, model.config.context - 17))
    random, prompt = np.random.default_rng(0), ids[:16]
    written = generate(model, prompt, room + 1, random, greedy=True)
    next(written)                                  # the prompt is read here
    began, count = time.perf_counter(), sum(1 for _ in written)
    speed = count / (time.perf_counter() - began)
    return found, speed


if __name__ == "__main__":
    with program():
        main()
