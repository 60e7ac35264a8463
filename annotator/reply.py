"""Answers to what everybody asks all the time, written as JSON here and nowhere again."""

from collections.abc import Mapping

from fastapi import Response

from annotator.wire import Wire


def reply(answer: Wire, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The response of a route that names its model by `response_model`.

    FastAPI would check an answer against that model before it writes it, on a thread of its own:
    with 200 annotators that is what takes long. What was constructed without a check, such as
    proposals as they lie in the queue, is written as it is.
    """
    body = answer.model_dump_json(warnings=False)
    return Response(body, status, headers, media_type="application/json")
