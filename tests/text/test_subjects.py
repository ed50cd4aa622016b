"""Labels that are common subjects get their topics."""

from textjury.text.subjects import SUBJECTS, TOPICS, topics_of


def test_every_subject_is_made_of_known_topics_and_named_once() -> None:
    assert all(set(subject.topics) <= set(TOPICS) for subject in SUBJECTS)
    assert len(set(TOPICS)) == len(TOPICS)
    assert all(len(subject.topics) >= 3 and subject.names for subject in SUBJECTS)


def test_a_label_made_of_two_subjects_has_the_topics_of_both() -> None:
    sports, both = topics_of(["Sports", "Science or Technology"])
    assert {"astronomy", "software"} <= set(both)
    assert "football" in sports
    assert not set(sports) & set(both)


def test_other_words_for_a_subject_are_known_too() -> None:
    computers, family = topics_of(["Computers & Internet", "Family and Relationships"])
    assert "software" in computers
    assert "marriage" in family


def test_topics_that_two_labels_share_are_given_to_neither() -> None:
    world, politics = topics_of(["world", "politics"])
    assert "elections" not in {*world, *politics}
    assert "war" in world
    assert "parliament and law-making" in politics


def test_no_label_has_topics_when_one_of_them_is_no_subject() -> None:
    assert topics_of(["sports", "invoice disputes"]) == [(), ()]
    assert topics_of(["positive", "negative"]) == [(), ()]


def test_no_label_has_topics_when_two_mean_the_same_subject() -> None:
    assert topics_of(["sport", "sports news"]) == [(), ()]
