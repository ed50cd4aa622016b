import pytest
from hypothesis import given
from hypothesis import strategies as st

from textjury.errors import RuleError
from textjury.rules.entities import fold_name, load_entities

LABELS = ("supplier", "legal", "travel")
GOOD = """
[[entity]]
id = "acme"
label = "supplier"
names = ["Acme Bank"]
aliases = ["ACME"]
types = ["ORG"]
weight = 2.0
note = "our bank"
hit = ["Acme Bank AG", "the acme"]
miss = ["Acmeville"]

[[entity]]
id = "places"
label = "travel"
types = ["loc"]

[[entity]]
id = "not-us"
label = "supplier"
names = ["中国银行", "D\u2019Arcy\u2013Smith"]
sign = "against"
"""


@pytest.fixture
def write(tmp_path):
    def _write(text):
        path = tmp_path / "entities.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def _ids(book, surface, kind):
    return [rule.id for rule in book.match(surface, kind)]


def test_load_reads_entries_in_file_order(write):
    book = load_entities(write(GOOD), LABELS, ("PER", "ORG", "LOC"))
    assert [r.id for r in book.rules] == ["acme", "places", "not-us"]
    assert book.labels == ("supplier", "travel")
    assert [r.effect for r in book.rules] == [2.0, 1.0, -1.0]
    assert len(book.digest) == 64


@pytest.mark.parametrize(
    ("surface", "kind", "expected"),
    [
        pytest.param("ACME Bank's", "ORG", ["acme"], id="case and possessive"),
        pytest.param("Acme\n Bank", "ORG", ["acme"], id="blanks"),
        pytest.param("acme", "org", ["acme"], id="type without case"),
        pytest.param("Acme Bank", "PER", [], id="other type"),
        pytest.param("Acmeville", "ORG", [], id="glued to letters"),
        pytest.param("New Acme2", "ORG", [], id="glued to a digit"),
        pytest.param("Berlin", "LOC", ["places"], id="type-only entry"),
        pytest.param("Acme Bank", "LOC", ["places"], id="type-only entry does not look at names"),
        pytest.param("去中国银行吧", "ORG", ["not-us"], id="no spaces, no boundary"),
        pytest.param("d'arcy-smith", "PER", ["not-us"], id="plain dashes and apostrophes"),
        pytest.param("\uff21\uff23\uff2d\uff25", "ORG", ["acme"], id="full width"),
        pytest.param("", "ORG", [], id="empty"),
    ],
)
def test_match_finds_names_on_word_boundaries(write, surface, kind, expected):
    assert _ids(load_entities(write(GOOD), LABELS), surface, kind) == expected


def test_examples_pass_when_all_behave(write):
    results = load_entities(write(GOOD), LABELS).run_examples()
    assert [(r.rule_id, r.kind, r.number, r.passed) for r in results] == [
        ("acme", "hit", 1, True),
        ("acme", "hit", 2, True),
        ("acme", "miss", 1, True),
    ]


def test_examples_fail_with_the_entry_and_its_line_when_they_do_not_behave(write):
    book = load_entities(write(GOOD.replace('["Acmeville"]', '["Acme of Berlin", "Acmeville"]')), LABELS)
    (failed,) = [r for r in book.run_examples() if not r.passed]
    assert (failed.rule_id, failed.text, failed.kind, failed.found) == (
        "acme",
        "Acme of Berlin",
        "miss",
        "hit",
    )
    assert failed.place.endswith('entities.toml:3 "id"')


def test_defaults_hold_for_entries_that_say_nothing_else(write):
    text = "[defaults]\nweight = 3.0\nmax_hits = 1\n" + GOOD
    rules = load_entities(write(text), LABELS).rules
    assert [r.effect for r in rules] == [2.0, 3.0, -3.0]
    assert {r.max_hits for r in rules} == {1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            '[[entity]]\nid="a"\nlabel="legel"\nnames=["x"]',
            r'toml:3 "label": no label \'legel\'.*did you mean "legal"',
            id="label",
        ),
        pytest.param(
            '[[entity]]\nid="a"\nlabel="legal"',
            r"toml:1 .*matches nothing; names, aliases or types",
            id="nothing",
        ),
        pytest.param('[[entity]]\nlabel="legal"\nnames=["x"]', r'toml:1 .*"id" is missing', id="no id"),
        pytest.param('[[entity]]\nid="a b"\nlabel="legal"\nnames=["x"]', r"toml:2 .*'a b'; letters, digits", id="id"),
        pytest.param(
            '[[entity]]\nid="a"\nlabel="legal"\nnames=["x"]\n[[entity]]\nid="a"\nlabel="legal"\nnames=["y"]',
            r"toml:6 .*'a' is already used at .*toml:2",
            id="doubled",
        ),
        pytest.param(
            '[[entity]]\nid="a"\nlabel="legal"\nnmaes=["x"]\ntypes=["ORG"]',
            r'toml:4 "nmaes": unknown key; did you mean "names"',
            id="key",
        ),
        pytest.param('[[entity]]\nid="a"\nlabel="legal"\nnames="x"', r"toml:4 .*'x'; a list of strings", id="no list"),
        pytest.param(
            '[[entity]]\nid="a"\nlabel="legal"\nnames=["--"]',
            r"toml:4 .*at least one letter or digit",
            id="no letter",
        ),
        pytest.param(
            '[[entity]]\nid="a"\nlabel="legal"\ntypes=["ORGS"]',
            r'toml:4 .*no entity type \'ORGS\'.*did you mean "ORG"',
            id="type",
        ),
        pytest.param(
            '[[entity]]\nid="a"\nlabel="legal"\nnames=["x"]\nweight=-1',
            r'toml:5 .*-1; a number above 0; .*sign = "against"',
            id="weight",
        ),
        pytest.param(
            '[[entity]]\nid="a"\nlabel="legal"\nnames=["x"]\nweight=nan',
            r"toml:5 .*nan; a number above 0",
            id="nan",
        ),
        pytest.param('[[entity]]\nid="a"\nlabel="legal"\nnames=["x"]\nsign="no"', r"toml:5 .*'no'; sign is", id="sign"),
        pytest.param(
            '[[entity]]\nid="a"\nlabel="legal"\nnames=["x"]\nhit="x"',
            r"toml:5 .*'x'; a list of strings",
            id="examples",
        ),
        pytest.param('[[entity]]\nid="a"\nlabel="legal"\nnames=["x"]\nnote=1', r"toml:5 .*1; a string", id="note"),
        pytest.param("[defaults]\nweight=0", r'toml:2 "weight": 0; a number above 0', id="defaults"),
        pytest.param("[defaults]\nlabel='x'", r'toml:2 "label": unknown key', id="defaults key"),
        pytest.param("defaults=1", r'toml:1 "defaults": 1; a \[defaults\] table', id="defaults no table"),
        pytest.param(
            '[[entity]]\nid="a"\nlabel="legal"\nnames=["x"]\nmax_hits=0',
            r"toml:5 .*0; a whole number from 1",
            id="hits",
        ),
        pytest.param('[entity]\nid="a"', r"toml:1 .*not a list of tables; \[\[entity\]\] entries", id="one bracket"),
        pytest.param('[[entities]]\nid="a"', r'toml:1 "entities": unknown key; did you mean "entity"', id="table"),
        pytest.param("[[entity\n", r"toml:1: ", id="syntax"),
    ],
)
def test_load_names_the_place_and_the_remedy_when_an_entry_is_wrong(write, text, message):
    with pytest.raises(RuleError, match=message):
        load_entities(write(text), LABELS, ("PER", "ORG"))


def test_digest_changes_with_what_matters_and_with_nothing_else(write):
    digest = load_entities(write(GOOD), LABELS).digest
    assert load_entities(write("# note\n" + GOOD.replace('["Acmeville"]', "[]")), LABELS).digest == digest
    assert load_entities(write(GOOD.replace("2.0", "2.5")), LABELS).digest != digest
    assert load_entities(write(GOOD.replace('"ACME"', '"ACMEX"')), LABELS).digest != digest


def test_load_lists_all_problems_at_once(write):
    text = '[[entity]]\nid="a"\nlabel="x"\nweight=0\n[[entity]]\nlabel="legal"\n'
    with pytest.raises(RuleError, match="no label 'x'") as caught:
        load_entities(write(text), LABELS)
    assert len(caught.value.problems) == 5


def test_load_fails_when_the_file_is_missing(tmp_path):
    with pytest.raises(RuleError, match=r"entities\.toml: file not found"):
        load_entities(tmp_path / "entities.toml", LABELS)


@given(st.text(max_size=40))
def test_fold_name_is_idempotent(text):
    assert fold_name(fold_name(text)) == fold_name(text)
