"""Checks of webhooks: vectors that the senders publish, and attacks on each check.

`holes` names the attacks that a check lets through. Its broken twins are checks that forget one
thing each.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from node import (
    Bearer,
    GitHub,
    Hmac,
    Ignore,
    Reply,
    Request,
    Send,
    Slack,
    StandardWebhooks,
    Start,
    Stripe,
    Unsigned,
    webhook,
)
from node.engine.application import collect
from node.engine.errors import (
    DefinitionError,
    EngineError,
    WebhookRefused,
    WebhookSecretMissing,
    WebhookUnreadable,
)
from node.engine.webhook_checks import Check
from node.engine.webhook_request import joined

NOW = 1_700_000_000
SECRET = "whsec_" + base64.b64encode(b"a secret of some length").decode()
OTHER = "whsec_" + base64.b64encode(b"the one that came before").decode()

# -- what the senders publish --------------------------------------------------------------------

SLACK = (
    "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
    "&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
    "&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
    "%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    "&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SHA1 = bytes.fromhex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
VECTORS = {
    "github": (
        GitHub(secret_env="S"),
        "It's a Secret to Everybody",
        0,
        Request(
            b"Hello, World!",
            {
                "X-Hub-Signature-256": "sha256="
                "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
            },
        ),
    ),
    "slack": (
        Slack(secret_env="S"),
        "8f742231b10e8888abcd99yyyzzz85a5",
        1531420618,
        Request(
            SLACK.encode(),
            {
                "X-Slack-Request-Timestamp": "1531420618",
                "X-Slack-Signature": "v0="
                "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            },
        ),
    ),
    "standard": (
        StandardWebhooks(secret_env="S"),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        1614265330,
        Request(
            b'{"test": 2432232314}',
            {
                "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
                "webhook-timestamp": "1614265330",
                "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            },
        ),
    ),
    "rfc 4231": (
        Hmac("X-Mac", secret_env="S"),
        "Jefe",
        0,
        Request(
            b"what do ya want for nothing?",
            {"X-Mac": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        ),
    ),
    "rfc 2202": (
        Hmac("X-Mac", secret_env="S", algorithm="sha1", encoding="base64", prefix="v="),
        "Jefe",
        0,
        Request(b"what do ya want for nothing?", {"X-Mac": "v=" + base64.b64encode(SHA1).decode()}),
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_what_a_sender_publishes_passes(name: str) -> None:
    check, secret, at, request = VECTORS[name]
    check.verify(request, {"S": secret}, at)
    with pytest.raises(WebhookRefused):
        check.verify(replace(request, body=request.body + b" "), {"S": secret}, at)
    with pytest.raises(WebhookRefused):
        check.verify(request, {"S": secret[:-4] + "abcd"}, at)


# -- attacks -------------------------------------------------------------------------------------

Sign = Callable[[bytes, str, int], Request]


def mac(secret: str | bytes, signed: str) -> bytes:
    key = secret if isinstance(secret, bytes) else secret.encode()
    return hmac.digest(key, signed.encode(), hashlib.sha256)


def github(body: bytes, secret: str, at: int) -> Request:
    return Request(body, {"X-Hub-Signature-256": f"sha256={mac(secret, body.decode()).hex()}"})


def stripe(body: bytes, secret: str, at: int) -> Request:
    signature = mac(secret, f"{at}.{body.decode()}").hex()
    return Request(body, {"Stripe-Signature": f"t={at},v0=x,v1={'0' * 64},v1={signature}"})


def slack(body: bytes, secret: str, at: int) -> Request:
    signature = mac(secret, f"v0:{at}:{body.decode()}").hex()
    return Request(
        body, {"X-Slack-Request-Timestamp": str(at), "X-Slack-Signature": f"v0={signature}"}
    )


def standard(body: bytes, secret: str, at: int) -> Request:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(mac(key, f"msg_1.{at}.{body.decode()}")).decode()
    return Request(
        body,
        {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(at),
            "webhook-signature": f"v1a,abc v1,AAAA v1,{signature}",
        },
    )


def bearer(body: bytes, secret: str, at: int) -> Request:
    return Request(body, {"Authorization": f"Bearer {secret}"})


SIGNERS: dict[str, tuple[Check, Sign]] = {
    "github": (GitHub(secret_env=["S", "OLD"]), github),
    "stripe": (Stripe(secret_env=["S", "OLD"]), stripe),
    "slack": (Slack(secret_env=["S", "OLD"]), slack),
    "standard": (StandardWebhooks(secret_env=["S", "OLD"]), standard),
    "bearer": (Bearer(secret_env=["S", "OLD"]), bearer),
    "hmac": (Hmac("X-Hub-Signature-256", secret_env=["S", "OLD"], prefix="sha256="), github),
}
TIMED = {"stripe", "slack", "standard"}
BODY = b'{"id":"evt_1","event_id":"Ev1"}'


def passes(check: Check, request: Request, environment: Mapping[str, str]) -> bool:
    try:
        check.verify(request, environment, NOW)
    except (WebhookRefused, WebhookSecretMissing):
        return False
    return True


def holes(check: Check, sign: Sign, *, signs_body: bool, timed: bool) -> set[str]:
    """What is wrong with a check."""
    good = sign(BODY, SECRET, NOW)
    both = {"S": SECRET, "OLD": OTHER}
    found = set()
    if not all(
        passes(check, sign(BODY, secret, at), both)
        for secret in (SECRET, OTHER)
        for at in (NOW, NOW - 290, NOW + 290)
    ):
        found.add("refuses what is right")
    if passes(check, sign(BODY, OTHER, NOW), {"S": SECRET}):
        found.add("another secret")
    if any(passes(check, sign(BODY, SECRET, NOW), {"S": empty}) for empty in ("", " ")):
        found.add("no secret")
    if passes(check, sign(BODY, "whsec_", NOW), {"S": ""}):
        found.add("an empty secret")
    if signs_body and passes(check, replace(good, body=BODY + b"\n"), both):
        found.add("another body")
    for name, value in good.headers.items():
        fewer = {key: given for key, given in good.headers.items() if key != name}
        if passes(check, replace(good, headers=fewer), both):
            found.add(f"without {name}")
        for other in ("", "é", value[:-2], f"{value}, {value}x"[:-2], value.swapcase()):
            changed = replace(good, headers={**good.headers, name: other})
            if other != value and passes(check, changed, both):
                found.add(f"another {name}")
    if timed and any(passes(check, sign(BODY, SECRET, at), both) for at in (NOW - 301, NOW + 301)):
        found.add("an old one")
    return found


def standing(name: str) -> dict[str, Any]:
    return {"signs_body": name != "bearer", "timed": name in TIMED}


@pytest.mark.parametrize("name", SIGNERS)
def test_a_check_has_no_holes(name: str) -> None:
    check, sign = SIGNERS[name]
    assert holes(check, sign, **standing(name)) == set()


class Twin(Check):
    """A check that is made worse by one thing."""

    def __init__(self, check: Check, worse: Callable[..., None]) -> None:
        self.check = check
        self.worse = worse

    def verify(self, request: Request, environment: Mapping[str, str], now: float) -> None:
        self.worse(self.check, request, environment, now)


def open_without_secret(check: Check, request: Request, environment: Any, now: float) -> None:
    try:
        check.verify(request, environment, now)
    except WebhookSecretMissing:
        return


def believes(check: Check, request: Request, environment: Any, now: float) -> None:
    return


def blind_to_time(check: Any, request: Request, environment: Any, now: float) -> None:
    for at in (now, now - 301, now + 301):
        try:
            check.verify(request, environment, at)
            return
        except WebhookRefused as error:
            refused = error
    raise refused


def first_secret_only(check: Check, request: Request, environment: Any, now: float) -> None:
    check.verify(request, {"S": environment["S"]}, now)


@pytest.mark.parametrize("name", SIGNERS)
def test_a_broken_check_is_noticed(name: str) -> None:
    check, sign = SIGNERS[name]
    found = {
        worse: holes(Twin(check, worse), sign, **standing(name))
        for worse in (open_without_secret, believes, blind_to_time, first_secret_only)
    }
    assert "no secret" in found[open_without_secret]
    assert "another secret" in found[believes]
    assert ("an old one" in found[blind_to_time]) == (name in TIMED)
    assert "refuses what is right" in found[first_secret_only]


def test_a_secret_that_is_not_base64_opens_nothing() -> None:
    with pytest.raises(WebhookSecretMissing):
        StandardWebhooks(secret_env="S").verify(standard(BODY, SECRET, NOW), {"S": "whsec_é"}, NOW)


def test_a_second_header_is_no_second_chance() -> None:
    good = github(BODY, SECRET, NOW).headers["x-hub-signature-256"]
    for pair in ((good, "x"), ("x", good), (good, good)):
        request = Request(BODY, joined([("X-Hub-Signature-256", value) for value in pair]))
        assert not passes(GitHub(secret_env="S"), request, {"S": SECRET})


# -- deliveries ----------------------------------------------------------------------------------


def ids(check: Check, request: Request, path: str = "/a/b", **more: Any) -> list[str | None]:
    @webhook(path, verify=check, **more)
    def hook(request: Request) -> list[Start | Send]:
        return [Start("w"), Send("x", "s"), Start("w", id="mine")]

    named = hook.named(hook.actions(request), request)
    return [one.id if isinstance(one, Start) else getattr(one, "key", None) for one in named]


def test_a_delivery_names_what_it_does() -> None:
    signed = standard(BODY, SECRET, NOW)
    assert ids(StandardWebhooks(secret_env="S"), signed) == ["a:b:msg_1", "a:b:msg_1~1", "mine"]
    assert ids(Stripe(secret_env="S"), signed)[0] == "a:b:evt_1"
    assert ids(Slack(secret_env="S"), signed)[0] == "a:b:Ev1"
    sent = Request(BODY, {"X-GitHub-Delivery": "72d3162e-cc78"})
    assert ids(GitHub(secret_env="S"), sent)[0] == "a:b:72d3162e-cc78"
    assert ids(Unsigned(), sent) == [None, None, "mine"]
    assert ids(Unsigned(), sent, delivery="X-GitHub-Delivery")[0] == "a:b:72d3162e-cc78"
    assert ids(Unsigned(), sent, delivery=lambda request: request.json()["id"])[0] == "a:b:evt_1"


def test_no_two_deliveries_share_a_name() -> None:
    given = ["b:c", "c", "b~1", "b/c", "é", "x" * 81, "x" * 82]
    names = [
        name
        for path in ("/a", "/a/b", "/a.b")
        for one in given
        for name in ids(Unsigned(), Request(headers={"i": one}), path, delivery="I")[:2]
    ]
    assert len(set(names)) == len(names)
    assert all(name and "/" not in name and len(name) <= 200 for name in names)


# -- declaring and reading -----------------------------------------------------------------------


def test_a_wrong_declaration_is_refused() -> None:
    def plain(request: Request) -> Ignore:
        return Ignore()

    async def waits(request: Request) -> Ignore:
        return Ignore()

    wrong: list[dict[str, Any]] = [
        {"path": "a"},
        {"path": "/a/../b"},
        {"path": "/" + "a" * 80},
        {"verify": None},
        {"method": "post"},
        {"wait_result": 61},
        {"ack": "never"},
        {"function": waits},
    ]
    for each in wrong:
        options = {"path": "/a", "verify": Unsigned(), "function": plain, **each}
        function, path = options.pop("function"), options.pop("path")
        with pytest.raises(DefinitionError):
            webhook(path, **options)(function)
    with pytest.raises(DefinitionError):
        GitHub(secret_env=[])
    one, two = webhook("/a", verify=Unsigned())(plain), webhook("/a", verify=Unsigned())(plain)
    with pytest.raises(DefinitionError, match="two webhooks"):
        collect("app", [one, two])


def test_a_function_is_called_like_any_and_its_answer_is_checked() -> None:
    @webhook("/a", verify=Unsigned())
    def hook(request: Request) -> Any:
        return request.json()["does"]

    given: Any = hook(Request(b'{"does":1}'))
    assert given == 1
    for wrong in (b'{"does":[1]}', b'{"does":1}'):
        with pytest.raises(TypeError):
            hook.actions(Request(wrong))

    @webhook("/b", verify=Unsigned())
    def twice(request: Request) -> list[Reply]:
        return [Reply(), Reply()]

    with pytest.raises(TypeError):
        twice.actions(Request())


def test_a_body_that_is_not_as_expected_is_unreadable() -> None:
    assert Request(b"a=1&b=&a=2").form() == {"a": "2", "b": ""}
    assert Request(b"[1,2]").json(list[int]) == [1, 2]
    for read in (
        lambda: Request(b"{").json(),
        lambda: Request(b'["x"]').json(list[int]),
        lambda: Request(b"\xff").json(),
        lambda: Request(b"\xff").form(),
    ):
        with pytest.raises(WebhookUnreadable) as error:
            read()
        assert isinstance(error.value, EngineError)
