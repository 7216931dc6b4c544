"""What `digest` must come to, computed once more by other means.

The checker of the demo compares an execution's result, its row and its effect with this. So it
shares neither the engine nor the algorithms of `terms.py` with the application, only the list of
words that are no terms: it scans characters where the application uses patterns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from examples.documents.library import Document, Library
from examples.documents.terms import STOP_WORDS


@dataclass(frozen=True, slots=True)
class Expected:
    """The result of the execution, its row in `summaries`, the body of its report."""

    result: dict[str, Any]
    row: dict[str, Any]
    effect: dict[str, Any]


def expected(document: Document, library: Library) -> Expected:
    """What digesting a document of a library must come to."""
    tokens = list(_tokens(document.text))
    top = [{"term": t, "count": n} for t, n in _terms(set(_tokens(document.title)), tokens)]
    references = [
        {"document": d, "mentions": n}
        for d, n in _references(document.id, document.text, library.titles())
    ]
    summary = {
        "document": document.id,
        "title": document.title,
        "words": len(tokens),
        "digest": hashlib.sha256(document.text.encode()).hexdigest(),
        "terms": top,
        "references": references,
    }
    row = {key: summary[key] for key in ("document", "title", "words", "digest")}
    row["terms"] = json.dumps(top, ensure_ascii=False)
    row["refs"] = json.dumps(references, ensure_ascii=False)
    return Expected(result=summary, row=row, effect=dict(summary))


def _tokens(text: str) -> Iterator[str]:
    token = ""
    for letter in text + " ":
        inside = _goes_on(letter) if token else letter.isalnum() and not letter.isdecimal()
        if inside:
            token += letter
        else:
            if token:
                yield token.rstrip("_").lower()
            token = ""


def _terms(title: set[str], tokens: list[str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for token in tokens:
        counts[token] = counts.get(token, 0) + 1
    ranked = []
    for token, count in counts.items():
        if len(token) > 2 and token not in STOP_WORDS:
            weight = count * (len(token) if len(token) < 12 else 12)
            ranked.append((-weight * 3 if token in title else -weight, token, count))
    ranked.sort()
    return [(token, count) for _, token, count in ranked[:12]]


def _references(own: str, text: str, titles: Mapping[str, str]) -> list[tuple[str, int]]:
    flat = " ".join(text.split())
    after_section = [flat[at + len("section ") :] for at in _places(flat, "section ")]
    names: dict[str, int] = {}
    for other in titles:
        names[other] = len(list(_places(text, f'"{other}"')))
    for rest in after_section:
        fitting = [
            (-len(title), other)
            for other, title in titles.items()
            if rest.startswith(title) and not _goes_on(rest[len(title) : len(title) + 1])
        ]
        if fitting:
            names[min(fitting)[1]] += 1
    ranked = sorted((-count, other) for other, count in names.items() if count and other != own)
    return [(other, -count) for count, other in ranked]


def _places(text: str, part: str) -> Iterator[int]:
    """Where `part` begins in `text` as no continuation of a word, overlaps included."""
    at = text.find(part)
    while at >= 0:
        if at == 0 or not part[0].isalnum() or not _goes_on(text[at - 1]):
            yield at
        at = text.find(part, at + 1)


def _goes_on(letter: str) -> bool:
    return letter.isalnum() or letter == "_"
