"""Who has the thing now? The scoreboard of a run that learnt stories, over several seeds of draws.

    python scripts/score_stories.py runs/stories --seeds 5

A GPT and an n-gram model go on with the first paragraphs of the same held-out stories; then it is
asked of each whether hero, holder and sums are right. --show prints what both wrote first.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from tinygrad_edu.data.stories import opening, read_stories
from tinygrad_edu.eval.story_score import scoreboard, some_of, table, told_by_gpt
from tinygrad_edu.models.run import load_model, read_run, run_tokenizer
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.train.program import program


@dataclass
class Settings:
    """What to score, and how often."""

    run: Path = option(help="run folder", positional=True)
    seeds: int = option(5, "times that all stories are told, drawn with seeds 0, 1, …", low=1)
    stories: int = option(200, "held-out stories to go on with", low=1)
    order: int = option(6, "n of the n-gram model", low=1, high=9)
    show: int = option(0, "stories of the GPT to print", low=0)


def main():
    """Print a scoreboard for each seed, and the lowest shares of all."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        arrays, state = read_run(settings.run)
        model, tokenizer = load_model(arrays, state), run_tokenizer(settings.run, state)
        corpus = read_stories(state["settings"]["data"])
    end = tokenizer.special[END_OF_TEXT]
    scores = []
    for seed in range(settings.seeds):
        bar = partial(tqdm, desc=f"seed {seed}", unit="step", leave=False)
        rows = scoreboard(model, tokenizer, corpus, end, seed, settings.order, settings.stories,
                          bar)
        print(f"seed {seed}\n{table(rows)}\n")
        scores.append(rows)
    shown = some_of(corpus, settings.stories)[: settings.show]
    for story, told in zip(shown, told_by_gpt(model, tokenizer, shown, end), strict=True):
        print(f"-----\n{opening(story)}{told}\n")
    lowest = {name: min(gpt.shares[name] for _, gpt, _ in scores) for name in ("all", "known")}
    highest = max(ngram.shares["all"] for ngram, _, _ in scores)
    print(f"gpt_all_lowest={lowest['all']:.3f} ngram_all_highest={highest:.3f} "
          f"known_lowest={lowest['known']:.4f} seeds={settings.seeds} stories={settings.stories}")


if __name__ == "__main__":
    with program():
        main()
