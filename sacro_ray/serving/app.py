"""The FastAPI application: the page, its files, and `POST /score`; whatever scores is given to it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from sacro_ray.serving.answers import NOTICE, Answer, Refusal, Refused
from sacro_ray.serving.upload import FIELD, read_upload

PAGE = Path(__file__).with_name("page")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads nothing from elsewhere and runs no script but its own."""
UNKEPT = {"Cache-Control": "no-store"}
"""Answers show the radiograph, and stay in no cache."""
Scorer = Callable[[bytes, bool], Awaitable[Answer]]

REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "The upload broke off"},
    413: {"model": Refusal, "description": "The file is too large"},
    415: {"model": Refusal, "description": "Not a form, or not an image"},
    422: {"model": Refusal, "description": "An image that cannot be scored, or a wrong parameter"},
    503: {"model": Refusal, "description": "Busy, or starting anew; try again"},
}
FORM = {
    "type": "object",
    "required": [FIELD],
    "properties": {FIELD: {"type": "string", "format": "binary", "description": "a DICOM, TIFF, PNG or JPEG file"}},
}


@dataclass(frozen=True)
class About:
    """What the page says about the run.

    Attributes:
        run: Its name.
        version: Of sacro_ray.
        cutoffs: Cut-off by name.
        largest_upload: Bytes.
    """

    run: str
    version: str
    cutoffs: Mapping[str, float]
    largest_upload: int


def build_app(score: Scorer, about: About) -> FastAPI:
    """The application.

    Args:
        score: Answers for a file's bytes, with overlay or without, or raises `Refused`.
        about: The run.
    """
    app = FastAPIOffline(
        title="sacro_ray",
        version=about.version,
        description=f"Scores one radiograph with the run {about.run}. {NOTICE} Nothing uploaded is kept or logged.",
        redoc_url=None,
        static_url="/docs-files",
    )
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    page = _page(about)

    @app.exception_handler(Refused)
    async def refuse(request: Request, refused: Refused) -> JSONResponse:
        return JSONResponse(refused.refusal.model_dump(), refused.status, UNKEPT)

    @app.exception_handler(RequestValidationError)
    async def refuse_parameter(request: Request, error: RequestValidationError) -> JSONResponse:
        return await refuse(request, Refused(422, "wrong_parameter", "overlay is true or false"))

    @app.get("/", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"})

    @app.post(
        "/score",
        responses=REFUSALS,
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}}},
    )
    async def score_radiograph(
        request: Request,
        response: Response,
        overlay: Annotated[bool, Query(description="with the Grad-CAM map, as data URLs")] = False,
    ) -> Answer:
        """Score a radiograph: probability of definite radiographic sacroiliitis, calls at the run's cut-offs, remarks."""
        response.headers.update(UNKEPT)
        return await score(await read_upload(request, about.largest_upload), overlay)

    return app


def _page(about: About) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((PAGE / "index.html").read_text(encoding="utf-8"))
    return template.render(about=about, notice=NOTICE, limit_mib=f"{about.largest_upload / 2**20:g}")
