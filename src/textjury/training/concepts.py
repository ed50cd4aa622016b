"""What the recast sets are about: wordings of labels, written for this project."""

# ruff: noqa: E501  (a concept is one line of a table)

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from textjury.training.data import LabelledText
from textjury.training.recast import FEELING, REQUEST, TOPIC, Concept

DBPEDIA = {
    "Company": (
        "a company",
        "a business",
        "company",
        "a firm that sells goods or services",
        "corporate information",
    ),
    "Educational Institution": (
        "a school or university",
        "educational institution",
        "education",
        "a place of learning",
    ),
    "Artist": ("an artist", "artist", "a musician, painter or writer", "the life of an artist"),
    "Athlete": ("an athlete", "athlete", "a sports player", "a sportsperson's career"),
    "Office Holder": ("a politician", "office holder", "someone who held public office", "a public official"),
    "Mean of Transportation": (
        "a means of transport",
        "a vehicle, ship or aircraft",
        "mean of transportation",
        "vehicles",
    ),
    "Building": ("a building", "building", "a historic house or structure", "architecture"),
    "Natural Place": (
        "a river, lake or mountain",
        "natural place",
        "a natural landmark",
        "a body of water or a mountain",
    ),
    "Village": ("a village", "village", "a small settlement", "a rural community"),
    "Animal": ("an animal", "animal", "a species of animal", "insects, fish, birds or mammals"),
    "Plant": ("a plant", "plant", "a species of plant", "flowers, trees or shrubs"),
    "Album": ("a music album", "album", "a record released by a band or singer", "an album of songs"),
    "Film": ("a film", "film", "a movie", "a motion picture and its cast"),
    "Written Work": ("a book or magazine", "written work", "a novel, journal or newspaper", "a publication"),
}

# Broader topics: wordings, labels they hold for, labels where one may argue.
DBPEDIA_BROAD = (
    (("sports", "sport", "athletes and competitions", "games and teams"), "Athlete", "Educational Institution|Company"),
    (("politics", "government", "political affairs", "elections and public office"), "Office Holder", "Village|Building"),
    (("business", "commerce", "companies and markets", "the business world"), "Company", "Album|Building|Mean of Transportation|Film|Written Work"),
    (("music", "songs and bands"), "Album", "Artist|Company|Film|Educational Institution|Building"),
    (("art and culture", "arts", "culture", "entertainment"), "Artist|Album|Film", "Written Work|Building|Company|Educational Institution"),
    (("nature", "wildlife", "biology", "living things", "natural science"), "Animal|Plant", "Natural Place|Village|Written Work"),
    (("geography", "a place", "a location", "places on a map"), "Village|Natural Place", "Building|Animal|Plant|Educational Institution|Company"),
    (("a person", "someone's life", "biography", "people"), "Artist|Athlete|Office Holder", "Album|Film|Written Work|Building"),
    (("cinema", "film and television", "movies"), "Film", "Artist|Company|Album|Written Work|Building"),
    (("literature", "reading and publishing", "books"), "Written Work", "Artist|Film|Company|Educational Institution"),
    (("transport", "transportation", "travelling by road, rail, sea or air"), "Mean of Transportation", "Company|Building|Village|Natural Place"),
    (("technology", "engineering", "machines"), "Mean of Transportation", "Company|Educational Institution|Building|Written Work|Film"),
)  # fmt: skip

DOMAINS = {
    "banking": ("banking", "a bank account", "bank accounts and payments", "money in the bank"),
    "credit_cards": ("credit cards", "a credit card", "card limits, rewards and credit scores"),
    "kitchen_and_dining": ("food", "kitchen and dining", "cooking, food or restaurants", "eating"),
    "home": ("home", "music, lists and reminders at home", "household organisation"),
    "auto_and_commute": ("cars and commuting", "auto and commute", "driving", "a car, traffic or directions"),
    "travel": ("travel", "a trip", "flights, hotels and trips abroad", "tourism"),
    "utility": ("a small tool such as a timer, alarm or calculator", "utility", "phone functions"),
    "work": ("work", "employment", "pay, holidays and meetings at work", "human resources"),
    "small_talk": ("small talk", "chatting", "a casual conversation", "getting to know the assistant"),
    "meta": ("settings of the assistant", "controlling the assistant", "device settings"),
}
ARGUABLE = {
    "banking": ("credit_cards", "work"), "credit_cards": ("banking",), "home": ("utility", "meta", "work"),
    "utility": ("home", "meta", "travel", "small_talk"), "travel": ("auto_and_commute", "credit_cards"),
    "auto_and_commute": ("travel",), "small_talk": ("meta", "utility"), "meta": ("small_talk", "utility", "home"),
    "work": ("banking", "home"),
}  # fmt: skip

INTENTS = {
    "pto_request": "asking for paid time off", "pto_balance": "how much paid time off is left", "w2": "the W-2 tax form",
    "pto_used": "paid time off already used", "pto_request_status": "whether time off was approved",
    "rollover_401k": "moving a 401k pension", "mpg": "fuel economy of the car", "apr": "the annual percentage rate",
    "oil_change_how": "how to change the oil", "oil_change_when": "when the oil has to be changed",
    "min_payment": "the smallest payment that is due", "routing": "the bank's routing number", "text": "sending a text message",
    "yes": "saying yes", "no": "saying no", "maybe": "being unsure", "date": "today's date", "time": "what time it is",
    "gas": "how much fuel is left in the car", "food_last": "how long food keeps", "order": "ordering something online",
    "cancel": "stopping what was asked", "repeat": "saying it again", "vaccines": "vaccinations before a trip",
    "carry_on": "rules for carry-on luggage", "account_blocked": "a blocked account", "pin_change": "changing a PIN",
    "card_declined": "a card payment that was refused", "new_card": "applying for a new card",
    "damaged_card": "a damaged card", "report_lost_card": "a lost or stolen card", "report_fraud": "a fraudulent transaction",
    "transfer": "transferring money", "transactions": "recent transactions", "balance": "the account balance",
    "replacement_card_duration": "how long a replacement card takes", "exchange_rate": "currency exchange rates",
    "international_fees": "fees for paying abroad", "expiration_date": "the expiry date of a card",
    "direct_deposit": "having wages paid into an account", "freeze_account": "blocking an account on request",
}  # fmt: skip

_POSITIVE = (
    "positive",
    "a positive opinion",
    "favourable",
    "good",
    "happy",
    "praise",
    "satisfaction",
    "approval",
)
_NEGATIVE = (
    "negative",
    "a negative opinion",
    "unfavourable",
    "bad",
    "unhappy",
    "criticism",
    "dissatisfaction",
    "a complaint",
)
_NEUTRAL = (
    "neutral",
    "a neutral statement",
    "factual",
    "neither good nor bad",
    "without any feeling",
    "objective",
)


def dbpedia() -> list[Concept]:
    """The fourteen classes and broader topics that hold for some of them."""
    narrow = [
        Concept(names, frozenset({label}), _blurred(label), near=_KIN.get(label, ""))
        for label, names in DBPEDIA.items()
    ]
    broad = [
        Concept(names, frozenset(true.split("|")), frozenset(unclear.split("|")))
        for names, true, unclear in DBPEDIA_BROAD
    ]
    return narrow + broad


_KIN = {
    "Artist": "person", "Athlete": "person", "Office Holder": "person", "Album": "work", "Film": "work",
    "Written Work": "work", "Village": "place", "Natural Place": "place", "Building": "place", "Animal": "life",
    "Plant": "life", "Company": "body", "Educational Institution": "body",
}  # fmt: skip


def _blurred(label: str) -> frozenset[str]:
    pairs = {"Company": {"Building"}, "Building": {"Educational Institution"}, "Artist": {"Album"}}
    return frozenset(pairs.get(label, set()))


def clinc(rows: Iterable[LabelledText]) -> list[Concept]:
    """Every intent and every domain of the rows; out-of-scope texts only ever get false hypotheses of none."""
    domain_of = {row.label: row.domain for row in rows if row.domain and row.domain != "oos"}
    intents = [
        Concept(intent_names(label), frozenset({label}), near=domain, templates=REQUEST + TOPIC)
        for label, domain in sorted(domain_of.items())
    ]
    domains = [
        Concept(
            names,
            frozenset(label for label, home in domain_of.items() if home == domain),
            frozenset(label for label, home in domain_of.items() if home in ARGUABLE.get(domain, ())),
            near="domain",
            templates=TOPIC + REQUEST[:3],
        )
        for domain, names in DOMAINS.items()
    ]
    return intents + domains


def intent_names(label: str) -> tuple[str, ...]:
    plain = label.replace("_", " ")
    return (plain, INTENTS[label]) if label in INTENTS else (plain,)


SLIGHT = 1.0
"""Raters' mean below which there is no clear feeling: the least of the four degrees that their scale has either way."""


def graded(rows: Iterable[LabelledText]) -> list[LabelledText]:
    """The rows, neutral where raters found on average less than a slight feeling, whatever the file calls it."""
    return [
        replace(row, label="neutral") if row.valence is not None and abs(row.valence) < SLIGHT else row for row in rows
    ]


def vader() -> list[Concept]:
    """Positive, negative and neutral; each is a hard negative of the others."""
    return [
        Concept(_POSITIVE, frozenset({"positive"}), near="feeling", templates=FEELING, sentences=(
            "The author likes it.", "The writer is satisfied.", "This is praise.", "The review is positive.",
            "The reviewer recommends it.", "Somebody is pleased.", "This text expresses a positive feeling.",
        )),
        Concept(_NEGATIVE, frozenset({"negative"}), near="feeling", templates=FEELING, sentences=(
            "The author dislikes it.", "The writer is dissatisfied.", "This is a complaint.", "The review is negative.",
            "The reviewer does not recommend it.", "Somebody is upset.", "This text expresses a negative feeling.",
        )),
        Concept(_NEUTRAL, frozenset({"neutral"}), near="feeling", templates=FEELING, sentences=(
            "The author takes no side.", "This is a neutral statement.", "The review is neutral.",
            "This text expresses no clear opinion.",
        )),
    ]  # fmt: skip


__all__ = ["TOPIC", "clinc", "dbpedia", "graded", "intent_names", "vader"]
