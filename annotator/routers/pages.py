"""The pages for people: the annotator, signing in, the lead's, and the API's reference.

The first three are what Vite made of annotator/web. No file comes from another server.
"""

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated

import fastapi
import jinja2
from fastapi import APIRouter, Response
from starlette.responses import FileResponse, PlainTextResponse

from annotator.problems import ProblemError

BUILT = Path(__file__).parents[1] / "built"

_BUILT_PAGES = {"/": "index.html", "/sign-in": "sign-in.html", "/lead": "lead.html"}
_TEMPLATES = {
    "/docs": ("reference.html.j2", "text/html; charset=utf-8"),
    "/static/icon.svg": ("icon.svg.j2", "image/svg+xml"),
}
_FILES = {
    "/static/site.css": ("site.css", "text/css; charset=utf-8"),
    "/static/reference.js": ("reference.js", "text/javascript; charset=utf-8"),
}
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
}
# Their names hold a hash of what is in them.
_FOR_EVER = "public, max-age=31536000, immutable"
_NOT_BUILT = "The annotator's page is not built. In the folder of maskloop, run: make setup\n"

# No separators, so that a name never leaves its folder.
_AssetName = Annotated[str, fastapi.Path(pattern=r"^[0-9A-Za-z_-][0-9A-Za-z._-]{0,199}$")]


def pages_router(built: Path = BUILT) -> APIRouter:
    """The pages and what they need; those of Vite lie in `built`."""
    router = APIRouter(include_in_schema=False)
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("annotator", "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    for path, (name, media_type) in _TEMPLATES.items():
        _serve(router, path, templates.get_template(name).render().encode(), media_type)
    for path, (name, media_type) in _FILES.items():
        content = resources.files("annotator.pages").joinpath(name).read_bytes()
        _serve(router, path, content, media_type)
    for path, name in _BUILT_PAGES.items():
        _serve_built(router, path, built / name)
    router.add_api_route("/assets/{name}", _assets(built / "assets"), methods=["GET"])
    return router


def _serve(router: APIRouter, path: str, content: bytes, media_type: str) -> None:
    async def page() -> Response:
        return Response(content, media_type=media_type)

    router.add_api_route(path, page, methods=["GET"])


def _serve_built(router: APIRouter, path: str, file: Path) -> None:
    # Read anew each time: a page names its scripts by their hashes, and these change with a build.
    def page() -> Response:
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return PlainTextResponse(_NOT_BUILT, status_code=503)
        headers = {"Cache-Control": "no-store"}
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)

    router.add_api_route(path, page, methods=["GET"])


def _assets(folder: Path) -> Callable[[str], Response]:
    def asset(name: _AssetName) -> Response:
        file = folder / name
        if file.suffix not in _TYPES or not file.is_file():
            raise ProblemError(
                404, "unknown", f"{name!a}: no such file of the page", "Load the page again."
            )
        headers = {"Cache-Control": _FOR_EVER}
        return FileResponse(file, media_type=_TYPES[file.suffix], headers=headers)

    return asset
