"""The refusals of the emulated cloud.

Names and statuses come from Alibaba's API references for KMS 2016-01-20, STS 2015-04-01 and RAM 2015-05-01 ("error
codes" of each product) and from its page of common error codes. Where the documentation gives no status, the
docstring says so.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ApiError", "missing_parameter"]


class ApiError(Exception):
    """A refusal that goes to the caller as an HTTP status and a JSON body.

    Args:
        status: the HTTP status.
        code: the `Code` field that the SDKs look at.
        message: the sentence for people.
        detail: the field `AccessDeniedDetail`, where there is one.
    """

    def __init__(self, status: int, code: str, message: str, detail: Mapping[str, str] | None = None) -> None:
        """Keep the parts; the body itself depends on the product that refuses."""
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail


def missing_parameter(name: str) -> ApiError:
    """Return the refusal for a mandatory parameter or header that is not there (common error code, 400)."""
    return ApiError(
        400,
        "MissingParameter",
        f'The input parameter "{name}" that is mandatory for processing this request is not supplied.',
    )
