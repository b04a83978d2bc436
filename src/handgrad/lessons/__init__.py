"""The lessons, as the learner meets them: a catalogue, exercises that judge themselves, knobs to turn.

    catalog     which lessons there are; copies of them; running one from top to bottom
    exercise    is an answer right, and if not, where does it fail?
    knobs       pictures that change as one turns a knob
    source      the library's own code, where a lesson speaks of it

The lessons themselves are notebooks in jupytext's percent form, in the folder `lessons` of the repository.
"""

from handgrad.lessons import exercise, knobs, source

__all__ = ["exercise", "knobs", "source"]
