"""The application: `digest` reads a document, says what it is about, and tells the world.

The log holds names and digests of texts, not the texts: an activity reads the document again and
makes sure that it is still the same one.

Environment: DOCUMENTS_DIR (a folder; without it, the language reference inside CPython) and
RECEIVER_URL (where reports go, for example http://127.0.0.1:8900).
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import zlib
from pathlib import Path

import httpx
from pydantic import BaseModel

from examples.documents import terms
from examples.documents.library import Document, Library, LibraryError, open_library
from node import NonRetryable, RetryPolicy, activity, workflow

TIMEOUT = 5.0  # seconds for one request to the receiver
PERSISTENT = RetryPolicy(max_attempts=None, initial=0.2, max_interval=5.0)


class Source(BaseModel):
    """A document as it was found."""

    id: str
    title: str
    words: int
    digest: str


class Term(BaseModel):
    term: str
    count: int


class Reference(BaseModel):
    document: str
    mentions: int


class Summary(BaseModel):
    """What one document came to."""

    document: str
    title: str
    words: int
    digest: str
    terms: list[Term]
    references: list[Reference]


@activity
def read_document(document: str) -> Source:
    """Find a document and say which text it holds."""
    found = _read(document)
    return Source(
        id=found.id,
        title=found.title,
        words=len(terms.words(found.text)),
        digest=found.digest,
    )


@activity
def extract_terms(source: Source) -> list[Term]:
    """The document's key terms."""
    found = _read_same(source)
    return [
        Term(term=term, count=count) for term, count in terms.key_terms(found.title, found.text)
    ]


@activity
def find_references(source: Source) -> list[Reference]:
    """The other documents of the library that it mentions."""
    found = _read_same(source)
    mentions = terms.cross_references(found.id, found.text, _library().titles())
    return [Reference(document=document, mentions=count) for document, count in mentions]


@activity(retry=PERSISTENT)
def report(tenant: str, summary: Summary) -> None:
    """Tell the receiver. However often this runs, the receiver can tell that it is one effect."""
    url = os.environ.get("RECEIVER_URL")
    if not url:
        raise NonRetryable("RECEIVER_URL is not set, so there is nobody to report to")
    info = activity.info()
    answer = _client().post(
        f"{url.rstrip('/')}/effects",
        json=summary.model_dump(),
        headers={
            "Idempotency-Key": info.idempotency_key,
            "Litefleet-Tenant": tenant,
            "Litefleet-Execution": info.execution,
            "Litefleet-Step": f"{info.step}#{info.occurrence}",
            "Litefleet-Attempt": str(info.attempt),
        },
    )
    if answer.is_client_error and answer.status_code not in (408, 425, 429):
        raise NonRetryable(f"the receiver refuses the report ({answer.status_code}): {answer.text}")
    answer.raise_for_status()


@activity(transactional=True)
def save_summary(summary: Summary) -> None:
    """Write the tenant's own table, in the transaction of this step's log event."""
    data = summary.model_dump()
    transaction = activity.transaction()
    transaction.execute(
        "CREATE TABLE IF NOT EXISTS summaries("
        "document TEXT PRIMARY KEY, title TEXT NOT NULL, words INTEGER NOT NULL,"
        " digest TEXT NOT NULL, terms TEXT NOT NULL, refs TEXT NOT NULL) WITHOUT ROWID"
    )
    transaction.execute(
        "INSERT INTO summaries VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (document) DO UPDATE SET"
        " title = excluded.title, words = excluded.words, digest = excluded.digest,"
        " terms = excluded.terms, refs = excluded.refs",
        (
            summary.document,
            summary.title,
            summary.words,
            summary.digest,
            json.dumps(data["terms"], ensure_ascii=False),
            json.dumps(data["references"], ensure_ascii=False),
        ),
    )


@workflow
async def digest(document: str, pause: float | None = None) -> Summary:
    """Digest one document. `pause` is the length of the durable timer, in seconds."""
    source = await read_document(document)
    found, references = await asyncio.gather(extract_terms(source), find_references(source))
    await workflow.sleep(usual_pause(document) if pause is None else pause)
    summary = Summary(
        document=source.id,
        title=source.title,
        words=source.words,
        digest=source.digest,
        terms=found,
        references=references,
    )
    await report(workflow.info().tenant, summary)
    await save_summary(summary)
    return summary


def usual_pause(document: str) -> float:
    """From 1 to 3 seconds, always the same for a document."""
    return 1 + zlib.crc32(document.encode()) % 2001 / 1000


def _library() -> Library:
    folder = os.environ.get("DOCUMENTS_DIR")
    return open_library(Path(folder) if folder else None)


def _read(document: str) -> Document:
    try:
        return _library().read(document)
    except LibraryError as error:
        raise NonRetryable(str(error)) from error


def _read_same(source: Source) -> Document:
    found = _read(source.id)
    if found.digest != source.digest:
        raise NonRetryable(f"document {source.id!r} has changed since its digest was begun")
    return found


@functools.cache
def _client() -> httpx.Client:
    return httpx.Client(timeout=TIMEOUT)
