"""The subjects by which texts are commonly filed, with the finer topics that belong to each.

Written for this project. The one-pass model was taught these subjects, and a new rulebook whose labels are subjects
gets their topics: a sentence vector is rarely near to "science or technology", but often to "astronomy" or "software".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_TOPICS = """
politics; government; elections; parliament and law-making; diplomacy; international relations; foreign affairs;
world news; war; military; armed conflict; terrorism; protests and demonstrations; human rights; refugees and
migration; crime; police; courts and trials; law; prison; corruption; disaster; earthquakes and floods; accidents;
weather; climate change; the environment; pollution; energy; oil and gas; nuclear power; electricity; business;
companies; the economy; finance; banking; the stock market; trade; taxes; employment; wages and pensions; strikes
and trade unions; marketing and advertising; shopping and retail; real estate; insurance; mergers and acquisitions;
quarterly earnings; bankruptcy; start-ups; agriculture; farming; food; cooking; restaurants; drinks and wine;
health; medicine; disease; hospitals; doctors and patients; nutrition; fitness; mental health; drugs; vaccines;
science; scientific research; physics; chemistry; biology; genetics; mathematics; astronomy; space exploration;
geology; archaeology; psychology; philosophy; technology; computers; software; programming; the internet; social
media; mobile phones; telecommunications; electronics; hardware; artificial intelligence; machine learning;
cybersecurity; privacy; video games; robots; engineering; inventions and patents; sports; football; baseball;
basketball; ice hockey; tennis; golf; cricket; boxing; the Olympic Games; motor racing; athletics; cycling; coaches
and players; chess; entertainment; film; television; celebrities; music; concerts; opera and classical music; rock
bands; dance; theatre; literature; novels; poetry; journalism; newspapers; publishing; art; painting; museums;
photography; architecture; fashion; beauty; design; history; ancient history; monarchy; religion; Christianity;
Islam; the church; education; schools; universities; students and exams; teaching; language; linguistics; family;
marriage; children; parenting; friendship; love and dating; death and funerals; birthdays and holidays; pets;
animals; birds; plants and gardening; travel; tourism; hotels; airlines and airports; trains; cars; motorcycles;
road traffic; ships and boats; shipping and logistics; public transport; cities; villages; rivers and lakes;
mountains; islands; maps and geography; housing; home improvement; furniture; clothes; toys; hobbies; money;
payments; credit cards; loans and mortgages; refunds; prices; contracts; intellectual property; regulation; privacy
policy; customer service; complaints; deliveries; orders; passwords and accounts; technical problems; meetings;
appointments; work and office life; management; hiring; charity; volunteering; a person's biography; daily life;
humour; opinions and feelings; personal problems; statistics; construction; mining; manufacturing; weapons; the
armed forces; spies and secret services; treaties; sanctions; the United Nations; the European Union; the Middle
East; Africa; Asia; Latin America; the United States; royalty
"""
TOPICS = tuple(topic.strip() for topic in _TOPICS.replace("\n", " ").split(";"))


# Wordings, then topics.
_SUBJECTS = """
world news, world, international news, world affairs, foreign news: diplomacy; international relations; foreign
affairs; world news; war; military; armed conflict; terrorism; protests and demonstrations; human rights; refugees and
migration; weapons; the armed forces; spies and secret services; treaties; sanctions; the United Nations; the European
Union; the Middle East; Africa; Asia; Latin America; elections; government; monarchy
politics, political news, government, politics and government, national affairs: politics; government; elections;
parliament and law-making; taxes; corruption; regulation; diplomacy
sports, sport, sports news, games and matches: sports; football; baseball; basketball; ice hockey; tennis; golf; cricket;
boxing; the Olympic Games; motor racing; athletics; cycling; coaches and players; chess
business, business news, companies, the business world, commerce, markets: business; companies; the economy; finance;
banking; the stock market; trade; employment; oil and gas; mergers and acquisitions; quarterly earnings; bankruptcy;
start-ups; marketing and advertising; shopping and retail; manufacturing; strikes and trade unions; real estate;
shipping and logistics; mining
the economy, economics, finance, financial news: the economy; finance; banking; the stock market; trade; taxes; prices;
wages and pensions; employment; insurance; loans and mortgages
money, personal finance, banking: money; payments; credit cards; loans and mortgages; refunds; prices; insurance; banking;
wages and pensions
science, scientific news, research, natural science: science; scientific research; physics; chemistry; biology;
genetics; mathematics; astronomy; space exploration; geology; archaeology; psychology; inventions and patents
technology, tech, computing, computers and the internet, information technology: technology; computers; software;
programming; the internet; social media; mobile phones; telecommunications; electronics; hardware; artificial
intelligence; machine learning; cybersecurity; privacy; video games; robots; engineering; technical problems;
inventions and patents; passwords and accounts
entertainment, show business, entertainment news: entertainment; film; television; celebrities; music; concerts; rock
bands; dance; theatre; video games; humour
arts, arts and culture, culture: literature; novels; poetry; art; painting; museums; photography; architecture; opera and
classical music; theatre; dance; design; publishing; history
health, health and medicine, medicine, wellness: health; medicine; disease; hospitals; doctors and patients; nutrition;
fitness; mental health; drugs; vaccines
environment, the environment, climate, nature: the environment; climate change; pollution; energy; animals; birds;
plants and gardening; rivers and lakes; weather; mountains
crime, crime and justice, law, legal affairs: crime; police; courts and trials; law; prison; corruption; contracts;
intellectual property; spies and secret services
disasters, accidents and disasters, weather: disaster; earthquakes and floods; accidents; weather
education, schools and universities, learning: education; schools; universities; students and exams; teaching
religion, faith, religious affairs: religion; Christianity; Islam; the church; philosophy
travel, tourism, travelling: travel; tourism; hotels; airlines and airports; islands; mountains; trains
food, food and drink, cooking: food; cooking; restaurants; drinks and wine; nutrition; agriculture
family, family life, relationships, home life: family; marriage; children; parenting; friendship; love and dating; pets;
personal problems; birthdays and holidays; daily life; home improvement
transport, cars and traffic, vehicles: cars; motorcycles; road traffic; trains; public transport; ships and boats;
airlines and airports
work, jobs and careers, working life: work and office life; management; hiring; employment; meetings; appointments
customer service, complaints, orders and deliveries: customer service; complaints; deliveries; orders; refunds
style, fashion, lifestyle: fashion; beauty; design; clothes; furniture; shopping and retail
history, the past: history; ancient history; archaeology; monarchy; museums
people, someone's life, biography: a person's biography; celebrities; death and funerals; royalty
places, geography, towns and villages: cities; villages; rivers and lakes; mountains; islands; maps and geography
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """Wordings of one subject, and its topics, all of ``TOPICS``."""

    names: tuple[str, ...]
    topics: tuple[str, ...]


def _subjects() -> tuple[Subject, ...]:
    found = []
    for entry in re.split(r"\n(?=[^:\n]*:)", _SUBJECTS.strip()):
        names, _, topics = entry.replace("\n", " ").partition(":")
        found.append(Subject(*(tuple(p.strip() for p in part.split(by)) for part, by in ((names, ","), (topics, ";")))))
    return tuple(found)


SUBJECTS = _subjects()
# Further wordings of labels; the model was not taught these.
_ALSO = {
    "international": "world", "economy": "the economy", "computers": "technology", "internet": "technology",
    "the internet": "technology", "software": "technology", "sci": "science", "mathematics": "science",
    "maths": "science", "music": "entertainment", "movies": "entertainment", "film": "entertainment",
    "television": "entertainment", "books": "arts", "literature": "arts", "cars": "transport",
    "jobs": "work", "careers": "work",
}  # fmt: skip
_BY_NAME = {name: subject.topics for subject in SUBJECTS for name in subject.names}
_BY_NAME |= {name: _BY_NAME[subject] for name, subject in _ALSO.items()}
_JOINED = re.compile(r"\s*(?:,|/|&|\bor\b|\band\b)\s*")


def topics_of(labels: Sequence[str]) -> list[tuple[str, ...]]:
    """The topics of every label, in words, or none of any: labels with and without topics do not score alike.

    A label is made of subjects ("science or technology"). A topic that two labels share tells them apart no more, so
    neither gets it.
    """
    mine = [_named(label) for label in labels]
    counts = Counter(topic for topics in mine for topic in topics)
    own = [tuple(topic for topic in topics if counts[topic] == 1) for topics in mine]
    return own if all(len(topics) >= 3 for topics in own) else [() for _ in labels]


def _named(label: str) -> tuple[str, ...]:
    """Topics of the subjects that a label names; none if any of its parts is no subject."""
    whole = " ".join(label.casefold().split())
    parts = [whole] if whole in _BY_NAME else _JOINED.split(whole)
    if any(part not in _BY_NAME for part in parts):
        return ()
    return tuple(dict.fromkeys(topic for part in parts for topic in _BY_NAME[part]))
