"""Lesson 3.18 · Plots: pictures from a machine without a screen

Needs nothing. Used by metrics, story_score, descent, regularisation, scripts/bench_ops.py,
scripts/classical.py.

Idea      People look at a curve sooner than at a column of numbers, but nobody needs a picture to
          train a model. So the library that draws, matplotlib, is an extra: imported by the one who
          draws, in the moment of drawing, and where it is missing the sentence says how to get it.
          A server has no screen; the picture goes into a file.
Math      inches · dots an inch = pixels of a file
Shapes    numbers in, a file out
Pitfalls  matplotlib opens windows unless it is told, before pyplot is imported, not to.
          Every figure is kept until it is closed: a run that draws a thousand fills memory.
          To find out after an hour of work that the picture cannot be drawn is too late: a script
          asks for `plots` before it begins.
Cost      The import: a good part of a second.
Try       build it    the same picture as SVG: the ending of the name decides.
          break it    leave out the choice of "Agg", over ssh. What does matplotlib say?
          measure it  python -X importtime -c "from matplotlib import pyplot"
See       Hunter 2007 (matplotlib) · its manual, "Backends"
"""


def plots(missing="pictures need"):
    """Matplotlib's pyplot, drawing into files. ImportError beginning with `missing` without."""
    try:
        import matplotlib
    except ImportError:
        raise ImportError(f"{missing} matplotlib: pip install -e '.[pictures]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
