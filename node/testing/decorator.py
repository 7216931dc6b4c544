"""A test that is a coroutine, in a laboratory of its own."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from node.testing.lab import Lab


def in_lab(
    *things: object, **options: Any
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Decorate an `async def` test: it is run in a Lab of these things and options, which is its
    first argument, and needs no plugin. Fixtures and parameters follow."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(*args: Any, **kwargs: Any) -> None:
            async def main() -> None:
                async with Lab(*things, **options) as lab:
                    await test(lab, *args, **kwargs)

            asyncio.run(main())

        parameters = list(inspect.signature(test).parameters.values())[1:]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate
