"""What needs a Docker engine and the image: `make docker-tests`. Without them these tests fail."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """A client of the Docker engine."""
    client = docker.from_env()
    client.ping()
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(engine: Any) -> str:
    """The image of this version; `make image` has built it."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        name = os.environ.get("NAME", "litefleet")
        tag = f"{name}:{tomllib.load(file)['project']['version']}"
    engine.images.get(tag)
    return tag
