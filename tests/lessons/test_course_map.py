"""The map of the course has a place for every lesson, and marks the one where one is."""

import xml.etree.ElementTree as ET

import pytest

from handgrad.lessons import catalog, course_map

SVG = "{http://www.w3.org/2000/svg}"


def drawing(number=None):
    svg = course_map.here(number).svg()
    return ET.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))


def words(of):
    return [text.text or "" for text in of.iter(f"{SVG}text")]


@pytest.mark.parametrize("lesson", catalog.lessons(), ids=lambda lesson: lesson.name)
def test_every_lesson_has_a_place_which_is_marked_while_one_is_there(lesson):
    marked = [box for box in drawing(lesson.number).iter(f"{SVG}rect") if box.get("fill") != "none"]
    assert marked
    assert f"you are at {lesson.title}" in drawing(lesson.number).get("aria-label")


def test_every_lesson_is_named_by_its_number():
    shown = " ".join(words(drawing())).replace(",", " ").split()
    assert {str(lesson.number) for lesson in catalog.lessons()} <= set(shown)


def test_nothing_is_marked_where_one_is_nowhere():
    assert {box.get("fill") for box in drawing().iter(f"{SVG}rect")} == {"none"}
    assert repr(course_map.here()) == "The course"


def test_boxes_stay_within_the_drawing_and_do_not_overlap():
    sides = ("x", "y", "width", "height")
    _, *boxes = ([float(rect.get(side)) for side in sides] for rect in drawing().iter(f"{SVG}rect"))
    for i, (x, y, width, height) in enumerate(boxes):
        assert x >= 0
        assert x + width <= course_map.WIDTH
        assert y + height <= course_map.HEIGHT
        for x2, y2, width2, height2 in boxes[:i]:
            assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y


def test_a_lessons_name_fits_into_its_pill():
    pills = [rect for rect in drawing().iter(f"{SVG}rect") if rect.get("rx") == "12"]
    names = [text for text in drawing().iter(f"{SVG}text") if text.get("y") == "222"]
    for pill, name in zip(pills, names, strict=True):
        assert 0.52 * float(name.get("font-size")) * len(name.text) < float(pill.get("width"))
