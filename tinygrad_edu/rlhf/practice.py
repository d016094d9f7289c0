"""Lesson 7.17 · Practice: ask, judge, improve, again and again

Needs config, gauges, loop, metrics, rollout, stage, turns, world.
Used by scripts/train_grpo.py, scripts/train_ppo.py.

Idea      Fine-tuning has a file of examples. Practice has none: every step draws problems, lets the
          model answer, has the answers judged, improves the model by what was better than expected,
          and throws all of it away, since the next answers will be those of another model. How the
          improvement is computed is GRPO's or PPO's affair (lessons grpo and ppo); the rest is
          here: asking in the words that the model knows from its fine-tuning, the exact judge,
          examinations on problems that no training sees, and the loop, which may be killed at any
          moment.
Math      none
Shapes    found: pairs (task, problem), one for every answer · scores (B,) of a Rollout's B answers
Pitfalls  Of an answer that was cut off nobody knows how it would have ended: it is wrong.
          An examination by the likeliest tokens and one by drawn tokens are two numbers. Practice
          draws; who compares its reward with a greedy examination compares two policies.
          To resume exactly, the problems and the draws of a step have to be a function of (seed,
          step), as the batches of lesson stage are. What the update changes beside the weights (the
          price of the leash, for one) belongs into the checkpoint.
          The score at held-out problems is looked at and never learnt from, not even to choose the
          moment to stop: then it would be a part of the training.
Cost      Half of the time goes into writing answers, half into learning from them.
Try       build it    problems that get harder as soon as nine in ten answers are right.
          break it    draw the problems of all steps from one generator. Which test notices?
          measure it  python scripts/train_grpo.py --measure-rollout
See       Shao et al. 2024, section 4 · Zheng et al. 2023, "Secrets of RLHF", part I
"""

import time

import numpy as np

from tinygrad_edu.data.turns import Turns

from ..nn.config import complain, errors_in_one_sentence
from ..train.loop import Diverged, Interrupt, learning_rate
from ..train.metrics import Metrics
from .gauges import GAUGES
from .rollout import rollout, scored
from .stage import interrupted
from .world import messages_of, problems, room_for

# The gradient's norm is among the usual columns; generated: tokens that the model has written.
COLUMNS = (*(name for name in GAUGES if name != "gradient_norm"), "generated")


class Exercise:
    """Problems of a task, asked as fine-tuning asked them, and the program that judges answers."""

    def __init__(self, tokenizer, task, level=None, seed=0):
        self.turns = Turns(tokenizer)
        self.task, self.level, self.seed = task, level, seed
        self.room = room_for(problems(task, 400, seed, level=level))

    def problems(self, count, key, held_out=False):
        """So many (task, problem) pairs, drawn by the seed and a key."""
        return problems(self.task, count, f"{self.seed} {key}", held_out, self.level)

    def prompts(self, found):
        """The questions as lists of ids."""
        return [self.turns.prompt(messages_of(problem)).tolist() for _, problem in found]

    def answers(self, model, count, key, group=1, held_out=False, greedy=False):
        """(a Rollout of `group` answers to each of so many problems, what was asked of each)."""
        found = self.problems(count, key, held_out)
        random = np.random.default_rng([self.seed, *key.encode()])
        written = rollout(model, self.prompts(found), self.room, self.turns.stop, random, group,
                          greedy)
        return written, [pair for pair in found for _ in range(group)]

    def exact(self, written, found):
        """What a program thinks of the answers, (B,): 1.0 for a right one, else 0.0."""
        scores = []
        for (task, problem), ids in zip(found, written.answers(), strict=True):
            whole = ids[-1] in self.turns.stop     # an answer that did not end is none
            text = self.turns.tokenizer.decode(ids[:-1])
            scores.append(task.score(problem, text) if whole else 0.0)
        return scored(scores, len(found))

    def examine(self, model, count, greedy=True):
        """The share of held-out problems, always the same ones, that a model answers rightly."""
        examined = self.answers(model, count, "exam", held_out=True, greedy=greedy)
        return float(self.exact(*examined).mean())


def learnt(folder, runs):
    """(task, level, slips) of a run of train_sft.py, or of the one that a later run began with.

    ValueError for one without a task.

    runs: lesson run.
    """
    _, state = runs.read_run(folder)
    settings = state["settings"]
    if "base" not in settings and settings.get("sft"):
        return learnt(settings["sft"], runs)       # what came after it has taught no other task
    if settings.get("data") or "task" not in settings:
        raise ValueError(f"{folder} has not learnt one of the small tasks: begin with a run of "
                         "scripts/train_sft.py that has no --data")
    return settings["task"], settings.get("level"), settings.get("slips", 0.0)


def answers_gauges(written, reference):
    """What the notes of a Rollout say, name -> number.

    reference: the reference's log-probabilities of the same tokens, or None.
    """
    rows, tokens = len(written.ids), written.mask.sum()
    away = None
    if reference is not None:
        away = ((written.logprobs - reference) * written.mask[:, 1:]).sum() / rows
    return {"kl": away, "length": tokens / rows, "entropy": written.entropies.sum() / tokens}


def practise(stage, once, look, save, script, more=()):
    """All steps that are left; returns the Metrics. An interrupted run says how to go on, and ends.

    once(step, rate): one step, with its learning rate; returns numbers for the columns, among them
    reward, policy_loss, tokens (that were read) and generated (that were written): the last two are
    summed up here, as seconds are.
    look(): held-out numbers, name -> number, now and then. save(done): writes the checkpoint. more:
    names of columns beside COLUMNS.
    """
    from tqdm import tqdm

    settings, done = stage.settings, stage.done
    with errors_in_one_sentence():
        metrics = Metrics(stage.path / "metrics.csv", done, (*COLUMNS, *more))
    if not done:
        save(0)
    with tqdm(total=settings.steps, initial=done, desc="practice", unit="step") as bar, \
            Interrupt() as interrupt:
        while done < settings.steps and not interrupt.seen:
            began = time.perf_counter()
            row = one_step(once, done, learning_rate(settings, done), bar)
            done += 1
            if done % settings.evaluate_every == 0 or done == settings.steps:
                row |= look()
                told = ", ".join(f"{name} {row[name]:.3f}" for name in ("reward", "kl", "score")
                                 if row.get(name) is not None)
                bar.write(f"step {done:,}: {told}")
            row["seconds"] = time.perf_counter() - began
            for name in ("seconds", "tokens", "generated"):
                row[name] += metrics.last(name) or 0
            metrics.add(**row)
            bar.set_postfix_str(f"reward {row['reward']:.3f}", refresh=False)
            bar.update()
            if done % settings.save_every == 0 or interrupt.seen or done == settings.steps:
                save(done)
    if done < settings.steps:
        interrupted(stage, done, script)
    return metrics


def one_step(once, step, rate, bar):
    """The row of a step; ends the program in one sentence where its loss is not finite."""
    try:
        row = once(step, rate)
    except FloatingPointError as error:
        bar.close()
        complain(f"{Diverged(error, step)}; the checkpoint before it is kept, a smaller --lr may "
                 "help")
    return row | {"step": step, "loss": row["policy_loss"], "learning_rate": rate}
