"""Write the lists of users and visitors in one form."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import Response

from ml.published.snapshot import PublishedModel

JSON = "application/json"


def about_list(model: PublishedModel, moment: tuple[int, int], source: str) -> dict[str, Any]:
    """Return what a list's response says beside the movies.

    Args:
        model: the version that ranked it.
        moment: year and month that it is for.
        source: ``table`` or ``live``.
    """
    return {
        "model": model.name,
        "model_version": model.version,
        "score_is_chance": model.scores_are_chances,
        "year": moment[0],
        "month": moment[1],
        "source": source,
    }


def list_response(
    about: Mapping[str, Any], items: Sequence[bytes], headers: Mapping[str, str] | None = None
) -> Response:
    """Return a list's response.

    Args:
        about: the document without its items.
        items: JSON of each item, best first.
        headers: of the response.
    """
    content = b'%s,"items":[%s]}' % (orjson.dumps(about)[:-1], b",".join(items))
    return Response(content, headers=headers, media_type=JSON)
