"""A tenant's live database, brought from its host to a file here."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from backup.copies import Copy
from fleet.client import Client, FleetError
from fleet.proxy import EXPORT_HEADER
from fleet.views import CopyView


def export_tenant(
    client: Client, tenant: str, to: Path, progress: Callable[[int, int], None]
) -> CopyView:
    """Bring it to the new file `to`, whole or not at all. `progress` is told of bytes, and of how
    many. Raises FleetError, also for what is not what was sent.
    """
    fresh = to.with_name(f".{to.name}.part")
    done, digest = 0, sha256()
    try:
        with (
            client.stream(f"/api/tenants/{quote(tenant, safe='')}/export") as answer,
            fresh.open("wb") as file,
        ):
            about = Copy.model_validate_json(answer.headers[EXPORT_HEADER])
            for part in answer.iter_bytes():
                file.write(part)
                digest.update(part)
                done += len(part)
                progress(done, about.size)
        if (digest.hexdigest(), done) != (about.sha256, about.size):
            raise FleetError(
                "cut_short", f"The export of {tenant} is not what was sent.", "Try again."
            )
        fresh.rename(to)
    finally:
        fresh.unlink(missing_ok=True)
    return CopyView.model_validate(
        {**about.model_dump(), "name": to.name, "bookmark": about.bookmark}
    )
