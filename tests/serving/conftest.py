"""The application with something in place of the network, spoken to over ASGI, without a socket."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from serving_fakes import ABOUT, noise, score_brightness, show_grey

from sacro_ray.serving.app import build_app

Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="session")
def app() -> FastAPI:
    """The application with uploads of at most 1.5 MiB; `score_brightness` answers."""
    return build_app(score_brightness, show_grey, ABOUT)


@pytest.fixture
def ask(app: FastAPI) -> Ask:
    """`ask(method, path, **what httpx takes)`; an exception in the application is raised here, not a 500."""

    def ask(method: str, path: str, application: FastAPI = app, **given: Any) -> httpx.Response:
        async def answer() -> httpx.Response:
            transport = httpx.ASGITransport(application)
            async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
                return await client.request(method, path, **given)

        return asyncio.run(answer())

    return ask


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """A radiograph of noise."""
    return noise()
