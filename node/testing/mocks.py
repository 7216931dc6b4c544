"""What runs in the place of activities, and which calls there were."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Final

from node.engine.context import activity_info
from node.engine.definition import Activity

NOTHING: Final = object()


Raises = BaseException | type[BaseException] | Sequence[BaseException | type[BaseException]]


@dataclass(slots=True)
class ActivityCall:
    """One attempt of an activity. `arguments` are by name, with the defaults; `returned` is
    false when it raised, was stopped or has not ended."""

    activity: str
    arguments: Mapping[str, Any]
    execution: str
    attempt: int
    idempotency_key: str
    returned: bool = False
    result: Any = None


class StandIns:
    """Runs every activity, or its mock, and keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[ActivityCall] = []
        self.hanging = 0
        """Attempts of mocks that hang."""
        self._mocks: dict[str, Activity[..., Any]] = {}
        self._watched: dict[str, Activity[..., Any]] = {}

    def mock(
        self,
        activity: Activity[..., Any],
        *,
        returns: Any = NOTHING,
        raises: Raises = (),
        side_effect: Callable[..., Any] | None = None,
        hangs: bool = False,
    ) -> None:
        """See Lab.mock."""
        if sum((returns is not NOTHING, side_effect is not None, hangs)) > 1:
            raise TypeError("a mock either returns, has a side effect or hangs")
        if hangs and activity.transactional:
            raise TypeError(f"{activity.name} is transactional: it would hold up every commit")
        if returns is not NOTHING:
            activity.codec.result(returns)
            acting = _acting(activity, lambda *_, **__: returns)
        elif side_effect is not None:
            _check_signature(activity, side_effect)
            # On a thread, if the activity is: it may block.
            acting = _acting(activity, side_effect, may_block=True)
        elif hangs:
            acting = _acting(activity, self._hang)
        else:
            acting = activity
        if isinstance(raises, Sequence):
            acting = _failing_first(acting, raises)
        else:
            acting = _acting(activity, _raising(raises))
        if acting is activity:
            raise TypeError("a mock returns, raises, has a side effect or hangs")
        self._mocks[activity.name] = acting
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

    def _watch(
        self, activity: Activity[..., Any], acting: Activity[..., Any]
    ) -> Activity[..., Any]:
        function, signature = acting.function, activity.codec.signature

        def called(args: Any, kwargs: Any) -> ActivityCall:
            info = activity_info()
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            call = ActivityCall(
                activity.name,
                dict(bound.arguments),
                info.execution,
                info.attempt,
                info.idempotency_key,
            )
            self.calls.append(call)
            return call

        async def on_loop(*args: Any, **kwargs: Any) -> Any:
            call = called(args, kwargs)
            call.result = await function(*args, **kwargs)
            call.returned = True
            return call.result

        def plain(*args: Any, **kwargs: Any) -> Any:
            call = called(args, kwargs)
            call.result = function(*args, **kwargs)
            call.returned = True
            return call.result

        return _twin(acting, on_loop if acting.is_async else plain)

    async def _hang(self, *_: Any, **__: Any) -> Any:
        self.hanging += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.hanging -= 1


def _twin(activity: Activity[..., Any], function: Callable[..., Any]) -> Activity[..., Any]:
    twin = copy(activity)
    twin.function = function
    twin.is_async = inspect.iscoroutinefunction(function)
    return twin


def _acting(
    activity: Activity[..., Any], function: Callable[..., Any], *, may_block: bool = False
) -> Activity[..., Any]:
    """The activity with another function."""
    twin = _twin(activity, function)
    if not activity.transactional:
        # What cannot block needs no thread, which would be slow.
        return twin if twin.is_async or may_block else _twin(activity, _on_loop(function))
    if twin.is_async:
        raise TypeError(f"{activity.name} is transactional: its mock must be a plain function")
    return twin


def _failing_first(
    activity: Activity[..., Any], errors: Sequence[BaseException | type[BaseException]]
) -> Activity[..., Any]:
    """The activity, whose first attempts fail."""
    if not errors:
        return activity
    function = activity.function

    def fail() -> None:
        attempt = activity_info().attempt
        if attempt <= len(errors):
            raise errors[attempt - 1]

    async def on_loop(*args: Any, **kwargs: Any) -> Any:
        fail()
        return await function(*args, **kwargs)

    def plain(*args: Any, **kwargs: Any) -> Any:
        fail()
        return function(*args, **kwargs)

    return _twin(activity, on_loop if activity.is_async else plain)


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
