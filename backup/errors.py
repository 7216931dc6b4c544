"""What can go wrong between this machine and the bucket, by what the caller should do about it."""

from __future__ import annotations


class StoreError(Exception):
    """The object store did not do what was asked; subclasses say why."""


class Precondition(StoreError):
    """The condition of a conditional write did not hold (412): re-read and decide again."""


class Conflict(StoreError):
    """The store saw a concurrent write to the same key (409): re-read and retry."""


class NotFound(StoreError):
    """There is no such object or bucket (404)."""


class Throttled(StoreError):
    """The store asked for fewer requests (429, 503): nothing was done, wait and repeat."""


class Denied(StoreError):
    """The credentials are wrong or do not reach this key (401, 403)."""


class Unreachable(StoreError):
    """No connection was made: nothing was done."""


class Ambiguous(StoreError):
    """The request went out and no answer came back (timeout, reset, 5xx).

    A write may have landed, may still land, or may never land.
    """


class Unsupported(StoreError):
    """The store does not understand the request, or refuses it for good (other 4xx)."""
