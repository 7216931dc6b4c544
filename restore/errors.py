"""Why a tenant's log could not be brought back."""

from __future__ import annotations


class RestoreFailed(Exception):
    """The log could not be restored here and now; says nothing about what is in the bucket."""


class Damaged(Exception):
    """What is in the bucket does not lead to what is known to have been there."""
