"""Lesson 7.1 · Supervised fine-tuning: show the answers

Needs decoding, logprobs, loop. Used by reward, scripts/train_sft.py.

Idea      A base model continues texts: asked a question, it may well go on with another question.
          To make it answer, show it conversations and go on training in the same way as before, on
          the tokens of the answers alone. Little is learnt that it did not know; what it learns is
          that now is the time to answer, in which form, and when to stop. Everything after this
          lesson (reward, preferences, policy gradients) begins with such a model, since it can only
          make likelier what is written now and then.
Math      L = − Σ over answer tokens of ln p(token | all before it) / their number             (1)
          step s of batches of B takes the examples sB … sB + B − 1 of the order: a new shuffle of
          all n examples in every epoch ⌊k/n⌋                                                   (2)
Shapes    a row: ids (N,), mask (N,), 1 where a token is an answer's · a batch: ids, mask (B, T),
          zeros behind the short rows
Pitfalls  The mean in (1) is over tokens, not over answers: one long answer outweighs ten short
          ones. And it must be over the tokens of all parts of a batch together, see lesson loop.
          A lower loss is not a better assistant: the loss also counts what cannot be known (which
          of many good answers comes). So where a program can judge, answers are scored as well.
          Two or three epochs are enough. After more, the answers on questions of the training set
          are perfect, held-out ones get worse, and the model is surer of both.
          A row that is cut at the context has lost the mark of its end: it teaches to go on.
Cost      That of pretraining, 6 operations a parameter and token; but thousands of examples are
          enough where that took billions of tokens. Padding costs as much as tokens: lesson packing
          puts several examples into a row, and the scripts train on its batches in place of (2).
Try       build it    weights: an example counts twice if it was judged good.
          break it    learn the prompts too (a mask of ones). What does the model write after its
                      answer?
          measure it  python scripts/train_sft.py: exact answers before and after
See       Ouyang et al. 2022, section 3 · Zhou et al. 2023 (LIMA: a thousand examples)
"""

import numpy as np

from ..inference.decoding import generate_many
from ..train.loop import evaluate
from .logprobs import answer_targets


def checked_rows(rows, context, name="example"):
    """Rows (ids, mask) as a list, cut at the context of the model.

    ValueError, naming the example, where nothing of an answer is left: a prompt fills the context.
    """
    found = []
    for place, row in enumerate(rows, start=1):
        ids, mask = map(np.asarray, row)
        try:
            must_leave_room(mask, context)
        except ValueError as error:
            raise ValueError(f"{name} {place}: {error}") from None
        found.append((ids[:context], mask[:context]))
    return found


def must_leave_room(mask, context):
    """ValueError where no token of an answer is inside the context of the model."""
    if not mask[1:context].any():
        begin = int(np.argmax(mask)) if mask.any() else len(mask)
        raise ValueError(f"its prompt has {begin} tokens and leaves no room for an answer in the "
                         f"model's context of {context}: shorten it")


def padded(rows):
    """Rows (ids, mask) as arrays ids, mask (B, T): left-aligned, zeros behind the short ones."""
    longest = max(len(ids) for ids, _ in rows)
    both = np.zeros((2, len(rows), longest), np.int32)
    for place, row in enumerate(rows):
        length = len(row[0])
        both[:, place, :length] = row
    return tuple(both)


def examples_of_step(count, size, seed, step):
    """Which of `count` examples the batch of this step has, (size,): (2)."""
    first = step * size
    epochs, places = np.divmod(np.arange(first, first + size), count)
    found = []
    for epoch in np.unique(epochs):
        random = np.random.default_rng((seed, epoch))
        order = random.permutation(count)
        found.append(order[places[epochs == epoch]])
    return np.concatenate(found)


def sft_batch(rows, size, seed, step):
    """The (x, y) of a step's batch: y is the token that follows, −1 where it is no answer's."""
    places = examples_of_step(len(rows), size, seed, step)
    return inputs_and_targets([rows[k] for k in places])


def inputs_and_targets(rows):
    """Rows (ids, mask) as the x and y (B, T − 1) of a model's loss."""
    ids, mask = padded(rows)
    return ids[:, :-1], answer_targets(ids, mask)


def held_out_loss(model, rows, size=32):
    """(1) over rows that are not trained on, in nats a token."""
    parts = (rows[low:low + size] for low in range(0, len(rows), size))
    loss, _ = evaluate(model, map(inputs_and_targets, parts))
    return loss


def draw_answers(model, prompts, stop, max_new, seed=0, size=128, progress=iter, **choice):
    """What a model answers to prompts (lists of ids): a list of token ids for each, no end mark.

    stop: ids that end an answer. choice: greedy, temperature … (lesson sampling). Each answer has
    a generator of its own, of (seed, its place), so that it does not hang on what is drawn beside.
    """
    was_training = model.training
    model.eval()
    found = []
    try:
        for low in progress(range(0, len(prompts), size)):
            some = prompts[low:low + size]
            places = range(low, low + len(some))
            randoms = [np.random.default_rng((seed, place)) for place in places]
            found += generate_many(model, some, max_new, randoms, stop, **choice)
    finally:
        model.train(was_training)
    return found


def score_answers(model, turns, asked, max_new, seed=0, **choice):
    """(score of every answer (n,), the texts): asked are pairs (prompt messages, score function).

    turns: a Turns or ChatTurns of lesson turns. A score function takes the text of an answer.
    """
    prompts = [turns.prompt(messages).tolist() for messages, _ in asked]
    drawn = draw_answers(model, prompts, turns.stop, max_new, seed, **choice)
    texts = [turns.tokenizer.decode(ids) for ids in drawn]
    scores = [score(text) for text, (_, score) in zip(texts, asked, strict=True)]
    return np.array(scores, float), texts
