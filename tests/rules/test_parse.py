"""Rule files: what is read, and what people see when something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from textjury.config.schema import RulesConfig
from textjury.errors import RuleError
from textjury.rules.faults import regex_problem
from textjury.rules.model import Guard, RuleSet, Scope
from textjury.rules.parse import load_rules

LABELS = ("billing", "technical")
PATTERN = """
[[pattern]]
id = "twice"
label = "billing"
regex = '{regex}'
hit = ["charged twice"]
miss = ["charged once"]
"""
TERM = """
[[term]]
id = "refund"
label = "billing"
terms = ["refund"]
hit = ["a refund"]
miss = ["a fund"]
"""


def load(folder: Path, *, patterns: str | None = None, lexicon: str | None = None, **config: str | None) -> RuleSet:
    for name, text in (("patterns.toml", patterns), ("lexicon.toml", lexicon)):
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8")
    return load_rules(folder, RulesConfig.model_validate(config), LABELS)


def problems(folder: Path, **files: str) -> list[str]:
    with pytest.raises(RuleError) as caught:
        load(folder, **files)
    return [str(p).removeprefix(str(folder) + "/") for p in caught.value.problems]


def test_rules_are_read_with_defaults_of_their_file(tmp_path: Path) -> None:
    head = '[defaults]\nweight = 2\nscope = "first_lines:2"\nignore_case = false\n'
    own = "weight = 0.5\nsign = 'against'\nmax_hits = 1\n"
    own += "require = 'bank'\nunless = 'no'\nguard_scope = 'near:40'\n"
    rules = load(tmp_path, patterns=head + PATTERN.format(regex=r"\btwice\b") + own)
    (rule,) = rules.patterns
    assert (rule.id, rule.label, rule.regex, rule.weight, rule.effect()) == (
        "twice",
        "billing",
        r"\btwice\b",
        0.5,
        -0.5,
    )
    assert rule.scope == Scope("first_lines", 2)
    assert rule.guard == Guard("bank", "no", "near", 40)
    assert (rule.ignore_case, rule.max_hits) == (False, 1)
    assert rule.examples.hit == ("charged twice",)
    assert rule.place.endswith('patterns.toml:6 "pattern"')


def test_terms_and_negation_are_read(tmp_path: Path) -> None:
    head = '[defaults]\ninflect = "en"\n[negation]\nlanguages = ["de"]\nwords = ["kaum"]\n'
    extra = "negation_window = 2\nboundary = 'prefix'\non_negation = 'ignore'\nnegated = ['no refund']\n"
    rules = load(tmp_path, lexicon=head + TERM + extra)
    (rule,) = rules.terms
    assert (rule.terms, rule.inflect, rule.boundary, rule.negation_window) == (("refund",), "en", "prefix", 2)
    assert rule.on_negation == "ignore"
    assert rule.examples.negated == ("no refund",)
    assert {"kein", "kaum"} <= rules.negation.words
    assert "not" not in rules.negation.words


def test_rule_set_is_empty_when_default_files_are_absent_or_switched_off(tmp_path: Path) -> None:
    assert not load(tmp_path)
    load(tmp_path, patterns=PATTERN.format(regex="a"))
    assert not load_rules(tmp_path, RulesConfig(patterns=None), LABELS)


def test_a_file_named_in_the_configuration_must_exist(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"mine\.toml: file not found"):
        load_rules(tmp_path, RulesConfig(patterns="mine.toml"), LABELS)


def test_regexes_and_terms_are_composed_as_the_texts_are(tmp_path: Path) -> None:
    rules = load(tmp_path, patterns=PATTERN.format(regex="cafe\N{COMBINING ACUTE ACCENT}"))
    assert rules.patterns[0].regex == "caf\N{LATIN SMALL LETTER E WITH ACUTE}"


def test_all_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    patterns = (
        PATTERN.format(regex=r"please (call back")
        + PATTERN.format(regex="a").replace('"billing"', '"biling"')
        + "[[pattern]]\nid = 'x y'\nlabel = 'technical'\nregexp = 'a'\nweight = -1\n"
        + "[[patern]]\nid = 'z'\n"
    )
    lexicon = TERM.replace('"refund"\n', '"twice"\n') + "boundary = 'words'\n"
    assert [p.replace(f"{tmp_path}/", "") for p in problems(tmp_path, patterns=patterns, lexicon=lexicon)] == [
        "lexicon.toml:8 \"boundary\": 'words': input should be 'auto', 'word', 'prefix' or 'none'",
        r'patterns.toml:5 "regex": unclosed group at character 8; close it, or write \( for a parenthesis',
        "patterns.toml:10 \"id\": 'twice' is already used at patterns.toml:3; give each rule its own id",
        'patterns.toml:11 "label": no label \'biling\'; a label of pipeline.toml; did you mean "billing"?',
        'patterns.toml:15 "pattern": "hit" is missing; add hit = ["a text this rule must hit"]',
        'patterns.toml:15 "pattern": "miss" is missing; add miss = ["a similar text it must not hit"]',
        'patterns.toml:15 "pattern": "regex" is missing; add regex = \'...\' (single quotes keep backslashes)',
        "patterns.toml:16 \"id\": 'x y' is no rule id; use letters, digits, _ . and -",
        'patterns.toml:18 "regexp": unknown key; did you mean "regex"?',
        'patterns.toml:19 "weight": -1: input should be greater than 0',
        'patterns.toml:20 "patern": unknown table or key; did you mean "pattern"?',
    ]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("regexp = 'a'", 'patterns.toml:8 "regexp": unknown key; did you mean "regex"?'),
        ("weight = -1", 'patterns.toml:8 "weight": -1: input should be greater than 0'),
        ("weight = '2'", "patterns.toml:8 \"weight\": '2': input should be a valid number"),
        ("sign = 'minus'", "patterns.toml:8 \"sign\": 'minus': input should be 'for' or 'against'"),
        ("max_hits = 0", 'patterns.toml:8 "max_hits": 0: input should be greater than or equal to 1'),
        (
            "scope = 'header'",
            "patterns.toml:8 \"scope\": 'header' is no scope; "
            "choose text, unquoted, first_line, first_lines:N or first_chars:N",
        ),
        (
            "guard_scope = 'near'",
            "patterns.toml:8 \"guard_scope\": 'near' is no guard_scope; choose text, line or near:N (characters)",
        ),
        (
            "unless = 'a['",
            r'patterns.toml:8 "unless": unclosed character class at character 2; '
            r"close it, or write \[ for a bracket",
        ),
    ],
)
def test_a_bad_key_is_named_with_its_line(tmp_path: Path, entry: str, expected: str) -> None:
    assert problems(tmp_path, patterns=PATTERN.format(regex="a") + entry + "\n") == [expected]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            'hit = ["a refund"]\n',
            "",
            'lexicon.toml:2 "term": "hit" is missing; add hit = ["a text this rule must hit"]',
        ),
        (
            'miss = ["a fund"]\n',
            "",
            'lexicon.toml:2 "term": "miss" is missing; add miss = ["a similar text it must not hit"]',
        ),
        ('hit = ["a refund"]', "hit = []", "at least 1 item"),
        ('["refund"]', '["refund", "Refund"]', "term 'Refund' of label 'billing' is also in rule 'refund'"),
        ('["refund"]', '["refund", " "]', "a term is blank"),
        ('id = "refund"', 'id = "re fund"', "'re fund' is no rule id; use letters, digits, _ . and -"),
        ("[[term]]", "[term]", "is not a list of tables; [[term]]; use double brackets"),
    ],
)
def test_a_bad_term_is_named_with_its_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    (problem,) = problems(tmp_path, lexicon=TERM.replace(old, new))
    assert expected in problem
    assert problem.startswith("lexicon.toml:")


def test_an_unknown_negation_language_is_named(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, lexicon='[negation]\nlanguages = ["en", "xx"]\n' + TERM)
    assert problem.startswith("lexicon.toml:2 \"languages\": no negation words for 'xx'; known: de, en, es, fr, zh")


def test_a_bad_default_is_named_once(tmp_path: Path) -> None:
    head = '[defaults]\nignore_case = "yes"\n'
    two = PATTERN.format(regex="a") + PATTERN.format(regex="b").replace('"twice"', '"other"')
    assert problems(tmp_path, patterns=head + two) == [
        "patterns.toml:2 \"ignore_case\": 'yes': input should be a valid boolean"
    ]


def test_broken_toml_is_one_problem_per_file(tmp_path: Path) -> None:
    found = problems(tmp_path, patterns='[[pattern]]\nregex = "\\w"\n', lexicon="[[term]\n")
    assert len(found) == 2
    assert found[0].startswith("lexicon.toml:1:")
    assert found[1].startswith("patterns.toml:2:")
    assert "single quotes" in found[1]


@pytest.mark.parametrize(
    ("regex", "expected"),
    [
        ("(ab", r"unclosed group at character 1"),
        (r"a\(b(c[)]", "unclosed group at character 5"),
        ("a)b", "a parenthesis is closed that was never opened at character 2"),
        ("[abc", "unclosed character class at character 1"),
        ("a**", "two repetitions in a row at character 2"),
        ("a++", "two repetitions in a row at character 2"),
        ("*a", "nothing to repeat at character 1"),
        ("a{2000}", "repetition out of range at character 2"),
        ("[z-a]", "no such character class or range at character 2"),
        ("a\\", "the pattern ends in a backslash at character 2"),
        (
            "ab(?=c)",
            "look-around (?= at character 3; rules run in linear time, so there is none; use require or",
        ),
        ("(?<!a)b", "look-around (?<! at character 1"),
        (r"(a)\1", r"back-reference \1 at character 4"),
        (r"a\Z", r"no escape \Z at character 2; the end of the text is \z"),
        (r"a\q", r"no escape \q at character 2"),
        ("(?>a)", "(?> is not supported at character 1"),
        ("a*", "matches an empty text"),
        ("^", "matches an empty text"),
        ("\bfoo", r"a backspace at character 1; use 'single quotes': in double quotes \b is a backspace"),
        ("(?P<tjedge1>a)", "group names beginning with tjedge"),
        (r"\w{900}x\w{900}y\w{900}z", "too large for texts with non-ASCII letters"),
        ("(?:(?:[^x]{100}[^y]{100}){10}){3}", "repetition out of range"),
        ("(?P<a-b>x)", "bad group name at character 1"),
    ],
)
def test_regex_problem_says_what_and_where(regex: str, expected: str) -> None:
    assert expected in str(regex_problem(regex, "here"))


@pytest.mark.parametrize(
    "regex", [r"\bfee\b", "(?i)a|b", r"[^\W\d]+", "退款", r"\Qa.b\E", r"(?P<x>a){1,3}", "a{,3}b", r"[\S\s]x"]
)
def test_regex_problem_is_none_when_a_pattern_is_good(regex: str) -> None:
    assert regex_problem(regex, "here") is None
