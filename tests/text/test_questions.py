"""How much of a text asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textjury.text.questions import question_share


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("Where is my parcel?", 1.0),
        ("how to sort a list in bash", 1.0),
        ("Wo bleibt mein Paket?", 1.0),
        ("我的包裹在哪里？", 1.0),
        ('He asked, "Where is it?"', 1.0),
        ("The parcel came late.", 0.0),
        ("The parcel is late. Where is it?", 0.5),
        ("Whatever you do is fine", 0.0),
        ("Did you see it\nIt was great", 0.5),
        ("?!", 0.0),
        ("", 0.0),
    ],
)
def test_share_of_questions_is_as_a_reader_would_count(text: str, share: float) -> None:
    assert question_share(text) == share


@given(st.text(max_size=200))
def test_share_lies_between_none_and_all(text: str) -> None:
    assert 0.0 <= question_share(text) <= 1.0
