"""Equal rows are worked on once, and give what they give alone."""

from __future__ import annotations

from weitiao.data.bad_rows import BadRow
from weitiao.data.conversation import Conversation, Message
from weitiao.data.example import TokenSequence
from weitiao.data.forms import AnyForm
from weitiao.data.gate.row_cache import MOST_ROWS, Remembered
from weitiao.data.templates.rendered_row import RenderedRow


class Renderer:
    """Counts what it is asked to render."""

    def __init__(self) -> None:
        self.asked: list[AnyForm] = []

    def __call__(self, forms: list[AnyForm]) -> list[RenderedRow]:
        """Give each row a sequence, and a loss that names its place."""
        self.asked += forms
        return [
            RenderedRow([TokenSequence((1,), (1.0,))], lost=[BadRow(form.place, "too long")])
            for form in forms
        ]


def talk(text: str, line: int, draws: float = 1.0) -> Conversation:
    return Conversation((Message("user", text), Message("assistant", "yes")), f"x:{line}", draws)


def test_an_equal_row_is_rendered_once_and_stands_at_its_own_place() -> None:
    renderer = Renderer()
    remembered = Remembered(renderer)
    first = remembered.known([talk("a", 1), talk("a", 2)])
    later = remembered.known([talk("b", 3), talk("a", 4)])
    assert [form.place for form in renderer.asked] == ["x:1", "x:3"]
    for line, known in enumerate([*first, *later], start=1):
        places = {known.place, known.rendered.lost[0].place}
        assert places == {f"x:{line}"}
    assert later[1].text is first[0].text and later[0].text.asked == "b"


def test_rows_that_differ_in_anything_but_their_place_are_different() -> None:
    renderer = Renderer()
    tool = Conversation(talk("a", 4).messages, "x:4", tools=({"name": "t"},))
    thought = Conversation(
        (Message("user", "a"), Message("assistant", "yes", extra={"reasoning_content": "h"})), "x:5"
    )
    weighed = Conversation((Message("user", "a"), Message("assistant", "yes", weight=0.5)), "x:6")
    Remembered(renderer).known([talk("a", 1), talk("a", 2, draws=2.0), talk("a ", 3), tool, thought, weighed])
    assert len(renderer.asked) == 6


def test_no_more_than_the_last_rows_are_kept() -> None:
    renderer = Renderer()
    remembered = Remembered(renderer)
    remembered.known([talk("a", 0)])
    for start in range(0, 3 * MOST_ROWS, MOST_ROWS // 2):
        remembered.known([talk(str(start + n), n) for n in range(MOST_ROWS // 2)])
        assert len(remembered) <= MOST_ROWS
    remembered.known([talk("a", 0)])
    assert renderer.asked[-1] == talk("a", 0)
