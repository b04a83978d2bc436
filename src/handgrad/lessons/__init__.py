"""The lessons, as the learner meets them: a catalogue, exercises that judge themselves, knobs to turn.

    catalog     which lessons there are; copies of them; running one from top to bottom
    exercise    judges an answer, and says where it fails
    knobs       pictures that change as one turns a knob
    pictures    the pictures of single lessons
    practice    a small trained model
    source      shows the library's own code

The lessons themselves are notebooks in jupytext's percent form, in the folder `lessons` of the repository.
"""

from handgrad.lessons import exercise, knobs, source

__all__ = ["exercise", "knobs", "source"]
