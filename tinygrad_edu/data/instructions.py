"""Lesson 4.116 · Instructions: requests in the world of the stories, and who fulfils them

Needs stories, tasks. Used by preference_pairs.

Idea      Sums have one right answer. Most of what people ask an assistant has many: whoever wants a
          story about Ada and a ball is content with any of millions. Here such requests are made in
          a world that is known completely, since we wrote its grammar: it reads any text back and
          tells who its hero is, what is in it, or that it is no story at all. So an open request,
          too, has an exact checker, and it can be asked of a model that was trained on stories for
          some minutes. Three tasks: begin a story, tell a whole one, answer a question about one.
Math      a text fulfils a request  ⇔  the grammar writes it, and its slots have the values that
          the request names                                                                     (1)
Shapes    Problem.key: (plot, hero, thing, number, item); the first three are its entities
          begin, tell   level 1 names a hero, level 2 a thing too, level 3 a number of items too
          ask           level 1: who it is about; 2: who has the thing; 3: how many there are
Pitfalls  A plot is a template: who saw all plots in training may know their texts by heart and need
          not read. So plots are held out as well as heroes and things, each by its own hash.
          In stories one may look the answer up in the last paragraph. `ask` leaves it out: who has
          the thing and how many there are must be worked out.
          (1) is strict: one wrong letter, and it is no story. A model that is rewarded by it alone,
          and never right by luck, learns nothing. That is what a reward model is for.
Cost      40 µs for a story, 0.5 ms for reading one: python -m tinygrad_edu.data.instructions.
Try       build it    a fourth task: finish a story whose first two paragraphs are given.
          break it    let `score` look for the names anywhere in the text. Write a text of a few
                      words that fulfils every request.
          measure it  python -m tinygrad_edu.data.instructions
See       Weston et al. 2015 (bAbI) · Zhou et al. 2023 (instructions that a program can check)
"""

import functools

from tinygrad_edu.data.stories import grammar
from tinygrad_edu.data.tasks import Problem, Task, below

KINDS = ("plot", "hero", "thing")  # what is held out
BREAK = "\n\n"  # between paragraphs
WISHES = ("about {hero}", " with a {thing}", " and {number} {item}")  # level by level


class StoryTask(Task):
    """What the tasks below share: the entities, and that a cast is drawn from one side."""

    family = "stories"
    levels = 1, 2, 3
    hardest = 3

    def draw(self, random, level=None, held_out=False):
        """A Problem of the training side, or of the held-out one."""
        return self.make(random, self.level_or_any(random, level), held_out)

    def entities(self, key):
        """The plot, the hero and the thing."""
        return [f"{kind} {word}" for kind, word in zip(KINDS, key, strict=False)]

    def cast(self, random, held_out):
        """(plot, values) with a plot, a hero and a thing of one side."""
        plot = below(random, self.side("plot", held_out))
        values = {kind: below(random, self.side(kind, held_out)) for kind in KINDS[1:]}
        return plot, values

    @functools.cache  # noqa: B019 - one object for each task
    def side(self, kind, held_out):
        """The plots, heroes or things of one side."""
        words = grammar().plots if kind == "plot" else grammar().words[kind]
        names = [word.title if kind == "plot" else word for word in words]
        return [word for word, name in zip(words, names, strict=True)
                if self.is_held_out_entity(f"{kind} {name}") == held_out]


class Begin(StoryTask):
    """The first paragraph of a story."""

    name = "begin"
    wordings = ("Begin a story {wish}.", "Write how a story {wish} begins.",
                "How does a story {wish} begin?")

    def make(self, random, level, held_out=False):
        """Begin a story about Ada with a ball. -> At a bridge a troll stopped Ada, who …"""
        plot, values = self.cast(random, held_out)
        answer = grammar().write(self.part(plot), random, values)
        key = key_of(plot, values)
        return Problem(self.request(random, level, key), answer, level, key)

    def part(self, plot):
        """What of a plot is to be told."""
        return opening_sequence(plot)

    def request(self, random, level, key):
        """The words of a request that a text with this key fulfils."""
        _, hero, thing, number, item = key
        wish = "".join(WISHES[:level]).format(hero=hero, thing=thing, number=number, item=item)
        return below(random, self.wordings).format(wish=wish)

    def score(self, problem, text):
        """1.0 where the text is one that the grammar writes, with all that was wished: (1)."""
        found = self.reading(text.strip())
        wished = {1: 2, 2: 3, 3: 5}[problem.level]  # how far into the key
        return float(found is not None and found[1:wished] == problem.key[1:wished])

    def reading(self, text):
        """The key of a text; None where the grammar does not write it."""
        for plot in grammar().plots:
            for end, values, _ in grammar().parse(self.part(plot), text, 0, {}):
                if end == len(text):
                    return key_of(plot, values)
        return None


class Tell(Begin):
    """A whole story."""

    name = "tell"
    wordings = ("Tell a story {wish}.", "Write a whole story {wish}.",
                "Do you know a story {wish}?")

    def part(self, plot):
        """All of it."""
        return plot.sequence


class Ask(StoryTask):
    """A question about a story whose last paragraph is missing."""

    name = "ask"
    questions = ("Who is the story about?", "Who has the {thing} now?",
                 "How many {item} are there now?")

    def make(self, random, level, held_out=False):
        """On a bright market day … Who has the ball now? -> Nina."""
        plot, values = self.cast(random, held_out)
        told, _, _ = grammar().write(plot.sequence, random, values).rpartition(BREAK)
        total = next(part for part in plot.sequence if hasattr(part, "sign")).value(values)
        answer = (values["hero"], values["holder"], total)[level - 1]
        question = self.questions[level - 1].format(**values)
        return Problem(f"{told}\n{question}", answer, level, key_of(plot, values))


def key_of(plot, values):
    """(plot, hero, thing, number, item) of a story, from the slots that were drawn."""
    number = values.get("a") or values.get("c")
    return plot.title, values["hero"], values["thing"], number, values["item"]


@functools.cache
def opening_sequence(plot):
    """The parts of a plot's first paragraph."""
    return plot.sequence[: plot.sequence.index(BREAK)]


INSTRUCTIONS = {task.name: task for task in (Begin(), Tell(), Ask())}


if __name__ == "__main__":
    from random import Random
    from time import perf_counter

    for task in INSTRUCTIONS.values():
        generator, start = Random(0), perf_counter()
        problems = [task.draw(generator) for _ in range(200)]
        middle = perf_counter()
        right = sum(task.score(problem, problem.answer) for problem in problems)
        end = perf_counter()
        print(f"{problems[0].prompt}\n-> {problems[0].answer}\n")
        print(f"{task.name}: draw_us={(middle - start) / 200 * 1e6:.0f} "
              f"score_us={(end - middle) / 200 * 1e6:.0f} right={right / 200}\n")
