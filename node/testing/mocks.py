"""What runs in the place of activities, and which calls there were."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any, Final

from node.engine.context import activity_info
from node.engine.definition import Activity

NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class MockedCall:
    """One attempt of an activity. `arguments` are by name, with the defaults; `outcome` is the
    JSON of what it returned, None when it raised, was stopped or has not ended."""

    activity: str
    arguments: Mapping[str, Any]
    execution: str
    attempt: int
    idempotency_key: str
    transactional: bool
    outcomes: list[str | None]

    @property
    def returned(self) -> bool:
        """Whether it returned."""
        return bool(self.outcomes)


class StandIns:
    """Runs every activity, or its mock, and keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[MockedCall] = []
        self.hanging = 0
        """Attempts of mocks that hang."""
        self._mocks: dict[str, Activity[..., Any]] = {}
        self._watched: dict[str, Activity[..., Any]] = {}

    def mock(
        self,
        activity: Activity[..., Any],
        *,
        returns: Any = NOTHING,
        raises: BaseException | type[BaseException] | None = None,
        side_effect: Callable[..., Any] | None = None,
        hangs: bool = False,
    ) -> None:
        """Raises TypeError for other than one of them, or a function that does not take the
        activity's arguments; PayloadError for a result of another type."""
        given = [returns is not NOTHING, raises is not None, side_effect is not None, hangs]
        if sum(given) != 1:
            raise TypeError("a mock either returns, raises, has a side effect or hangs")
        if hangs and activity.transactional:
            raise TypeError(f"{activity.name} is transactional: it would hold up every commit")
        if returns is not NOTHING:
            activity.codec.result(returns)
            function = _returning(returns)
        elif raises is not None:
            function = _raising(raises)
        elif side_effect is not None:
            _check_signature(activity, side_effect)
            function = side_effect
        else:
            function = self._hang
        twin = copy(activity)
        twin.function = function
        twin.is_async = inspect.iscoroutinefunction(function)
        if twin.is_async and activity.transactional:
            raise TypeError(f"{activity.name} is transactional: its mock must be a plain function")
        if not activity.transactional and side_effect is None and not twin.is_async:
            # On the loop, since nothing of it can block: a thread for each would be slow.
            twin.function, twin.is_async = _on_loop(function), True
        self._mocks[activity.name] = twin
        self._watched.pop(activity.name, None)

    def unmock(self, activity: Activity[..., Any]) -> None:
        """Run the real one again."""
        self._mocks.pop(activity.name, None)
        self._watched.pop(activity.name, None)

    def __call__(self, activity: Activity[..., Any]) -> Activity[..., Any]:
        """What runs in the place of an activity."""
        watched = self._watched.get(activity.name)
        if watched is None:
            watched = self._watched[activity.name] = self._watch(
                activity, self._mocks.get(activity.name, activity)
            )
        return watched

    def _watch(self, activity: Activity[..., Any], acting: Activity[..., Any]) -> Any:
        function, signature = acting.function, activity.codec.signature

        @contextmanager
        def watch(args: Any, kwargs: Any) -> Any:
            info = activity_info()
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            call = MockedCall(
                activity.name,
                dict(bound.arguments),
                info.execution,
                info.attempt,
                info.idempotency_key,
                activity.transactional,
                [],
            )
            self.calls.append(call)
            yield lambda value: call.outcomes.append(activity.codec.result(value))

        async def on_loop(*args: Any, **kwargs: Any) -> Any:
            with watch(args, kwargs) as ended:
                value = await function(*args, **kwargs)
                ended(value)
                return value

        def plain(*args: Any, **kwargs: Any) -> Any:
            with watch(args, kwargs) as ended:
                value = function(*args, **kwargs)
                ended(value)
                return value

        twin = copy(acting)
        twin.function = on_loop if acting.is_async else plain
        return twin

    async def _hang(self, *_: Any, **__: Any) -> Any:
        self.hanging += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.hanging -= 1


def _returning(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def _raising(error: BaseException | type[BaseException]) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def _on_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    async def on_loop(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return on_loop


def _check_signature(activity: Activity[..., Any], function: Callable[..., Any]) -> None:
    wanted = activity.codec.signature.parameters
    try:
        inspect.signature(function).bind(
            *(None for p in wanted.values() if p.kind is not p.KEYWORD_ONLY),
            **{name: None for name, p in wanted.items() if p.kind is p.KEYWORD_ONLY},
        )
    except TypeError as error:
        raise TypeError(
            f"the mock of {activity.name} does not take its arguments"
            f" ({', '.join(wanted) or 'none'}): {error}"
        ) from None
