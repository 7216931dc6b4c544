"""What a document is about and which others it mentions. Pure functions over texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

TERMS = 12
"""How many key terms a document has."""

SHORTEST = 3
LONGEST_WEIGHT = 12
TITLE_BONUS = 3

_STOP_WORDS = """
    about above after again all also always and another any are because been before being below
    between both but can cannot could did does doing down during each either else etc even every
    few for from further had has have having here how however into its itself just like made make
    makes many may might more most much must neither nor not note now off one only other otherwise
    our out over own same see shall should since some such than that the their them then there
    these they this those through thus too two under until upon use used uses using very was well
    were what when where whether which while who will with within without would yet you your
    """
STOP_WORDS = frozenset(_STOP_WORDS.split())

_WORD = re.compile(r"[^\W\d_](?:\w*[^\W_])?")


def words(text: str) -> list[str]:
    """The words of a text in small letters: from a letter to a letter or digit, with _ inside."""
    return [word.lower() for word in _WORD.findall(text)]


def key_terms(title: str, text: str) -> list[tuple[str, int]]:
    """The terms that weigh most, heaviest first, with how often each occurs.

    A term weighs its occurrences times its length (long words say more, up to a point), three
    times as much when it is in the title too. Equal weights go by the alphabet.
    """
    in_title = frozenset(words(title))
    counts = Counter(word for word in words(text) if is_term(word))

    def weight(term: str) -> int:
        return (
            counts[term] * min(len(term), LONGEST_WEIGHT) * (TITLE_BONUS if term in in_title else 1)
        )

    heaviest = sorted(counts, key=lambda term: (-weight(term), term))[:TERMS]
    return [(term, counts[term]) for term in heaviest]


def is_term(word: str) -> bool:
    """Whether a word can be a key term at all."""
    return len(word) >= SHORTEST and word not in STOP_WORDS


def cross_references(document: str, text: str, titles: Mapping[str, str]) -> list[tuple[str, int]]:
    """The other documents that a text mentions, most mentioned first, with how often.

    A mention is the other's name in double quotes (`"with"`), or its title after the word
    "section" (`see section Truth Value Testing`), over line ends too. Where several titles fit,
    the longest is meant. Equal counts go by the alphabet.
    """
    mentions: Counter[str] = Counter()
    # The look-ahead leaves the closing quote: it may open the next name.
    for name in re.findall(r'"(?=([^"\n]+)")', text):
        if name in titles:
            mentions[name] += 1

    by_title: dict[str, str] = {}
    for id in sorted(titles, reverse=True):  # two with one title: the first by the alphabet
        by_title[titles[id]] = id
    longest_first = sorted(by_title, key=lambda title: (-len(title), title))
    if longest_first:
        alternatives = "|".join(re.escape(title) for title in longest_first)
        pattern = re.compile(rf"\bsection ({alternatives})(?!\w)")
        for title in pattern.findall(" ".join(text.split())):
            mentions[by_title[title]] += 1

    del mentions[document]
    return sorted(mentions.items(), key=lambda mention: (-mention[1], mention[0]))
