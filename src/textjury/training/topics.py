"""Topics of plain sentences, taught by the encoder's own embeddings.

Entailment models learn inference from image captions and interviews and know little of what a text is *about*; the
sentence embeddings under them know that well. So unlabelled sentences get the topic that stands out among many
by embedding similarity as a true hypothesis, and topics that clearly do not as false ones (self-training, after
Yarowsky 1995; with a model's own scores as labels as in Gera et al. 2022, arXiv:2210.17541). Similarities are
standardised per topic over the sentences at hand: some topics are near to everything.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textjury.config.schema import EMBEDDED_MODELS
from textjury.engine.device import choose
from textjury.engine.models import close_model, locate, open_model
from textjury.training.blocks import Block, worded
from textjury.training.data import Sentence
from textjury.training.recast import TOPIC
from textjury.types import FloatArray

CLEAR = 2.6  # standard deviations above a topic's mean from which a sentence is about it
OPEN = 1.2  # below the best by less than this, or above this: may be argued, never asked
SURELY_NOT = 0.6
TOKENS = 128

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


@dataclass(frozen=True, slots=True)
class Standing:
    """How sentences stand to topics: standardised similarities float32 ``[sentences, topics]``."""

    scores: FloatArray

    @classmethod
    def of(cls, texts: Sequence[str], topics: Sequence[str] = TOPICS) -> Standing:
        """By the packaged encoder, on whatever device there is."""
        similar = embedded(texts) @ embedded(topics).T
        centred = (similar - similar.mean(axis=0)) / (similar.std(axis=0) + 1e-6)
        return cls(centred.astype(np.float32))


def embedded(texts: Sequence[str]) -> FloatArray:
    """Unit vectors float32 ``[texts, dimension]`` of each text's first tokens."""
    located = locate("embedding", EMBEDDED_MODELS["embedding"], base=Path())
    model = open_model(located, choose("auto"))
    try:
        vectors: FloatArray = model.window_vectors([ids[:TOKENS] for ids in model.tokenize(texts).ids])
        return vectors
    finally:
        close_model(model)


def topical(texts: Sequence[str], standing: Standing, *, seed: int, source: str, most: int = 6) -> Iterator[Block]:
    """A block for every text that some topic stands out for: one or two true topics, the rest false."""
    chance = random.Random(f"{seed}/{source}")
    for text, row in zip(texts, standing.scores, strict=True):
        order = np.argsort(-row)
        best = float(row[order[0]])
        if best < CLEAR:
            continue
        true = [int(order[0]), *(int(t) for t in order[1:2] if row[t] > max(CLEAR, best - OPEN / 2))]
        near = [int(t) for t in order[8:60] if SURELY_NOT / 2 < row[t] < OPEN and row[t] < best - OPEN]
        far = [int(t) for t in order[60:] if row[t] < SURELY_NOT]
        count = most - len(true)
        hard = chance.sample(near, min(len(near), count // 2))
        false = [*hard, *chance.sample(far, min(len(far), count - len(hard)))]
        template = chance.choice(TOPIC)
        asked = [(worded(template, TOPICS[t], chance), True) for t in true]
        asked += [(worded(template, TOPICS[t], chance), False) for t in false]
        yield Block.shuffled(text, asked, chance, source=source)


def paragraphs(sentences: Sequence[Sentence], *, seed: int, sources: frozenset[str]) -> list[str]:
    """Texts of one to four neighbouring sentences of a source, the annotators' tokens joined again."""
    chance = random.Random(f"{seed}/paragraphs")
    texts: list[str] = []
    current: list[str] = []
    wanted, source = 1, ""
    for sentence in sentences:
        if sentence.source not in sources:
            continue
        if sentence.source != source or len(current) >= wanted:
            texts += [" ".join(current)] if current else []
            current, wanted, source = [], chance.choice((1, 1, 2, 3, 4)), sentence.source
        current.append(joined(sentence.tokens))
    return [*texts, " ".join(current)] if current else texts


def joined(tokens: Sequence[str]) -> str:
    """Tokens as running text: no space before closing marks and clitics, none after opening ones."""
    text = re.sub(r" ([.,;:!?%)\]}]|n't\b|'(?:s|re|ve|ll|d|m)\b)", r"\1", " ".join(tokens))
    return re.sub(r"([(\[{$]) ", r"\1", text).replace("-LRB-", "(").replace("-RRB-", ")")
