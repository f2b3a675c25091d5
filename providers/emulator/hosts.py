"""The names under which the products are reached: each at its own, so that a call to the wrong product is found.

The real names are those of Alibaba's lists of endpoints. Where no resolver can be set up, each product also has an
address of its own on loopback, all with the same port. The plain `127.0.0.1` and `localhost` serve every product, for
clients that can be given one endpoint only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .errors import ApiError

__all__ = ["ADDRESSES", "EVERYTHING", "PLAIN_ADDRESS", "certificate_names", "products_at"]

PLAIN_ADDRESS = "127.0.0.1"
ADDRESSES: Mapping[str, str] = {"kms": "127.0.0.11", "sts": "127.0.0.12", "ram": "127.0.0.13", "ims": "127.0.0.14"}
INSTANCE = "kms instance"
METADATA_HOST = "100.100.100.200"
EVERYTHING = frozenset({*ADDRESSES, INSTANCE})

_REGION = r"[a-z]{2}-[a-z0-9]+(-[a-z0-9]+)*"
_NAMES = {
    "kms": re.compile(rf"kms(-vpc)?\.{_REGION}\.aliyuncs\.com"),
    "sts": re.compile(rf"sts(-vpc)?\.{_REGION}\.aliyuncs\.com|sts\.aliyuncs\.com"),
    "ram": re.compile(r"ram\.aliyuncs\.com"),
    "ims": re.compile(r"ims\.aliyuncs\.com"),
    INSTANCE: re.compile(r"kst-[a-z0-9]+\.cryptoservice\.kms\.aliyuncs\.com"),
}


def products_at(host: str, port: int) -> frozenset[str]:
    """Return the products that a request with this `Host` may be for.

    Raises:
        ApiError: 400 InvalidHost for a name or a port that is not served here.
    """
    name, colon, given = host.lower().partition(":")
    if name in (PLAIN_ADDRESS, "localhost") and given == str(port):
        return EVERYTHING
    found = {product for product, address in ADDRESSES.items() if name == address and given == str(port)}
    if given == str(port) or not colon:  # no port: 443, where the name leads here
        found |= {product for product, names in _NAMES.items() if names.fullmatch(name)}
    if not found:
        raise ApiError(400, "InvalidHost", "The Host of this request is not served here.")
    return frozenset(found)


def certificate_names(region_id: str) -> list[str]:
    """Return the names for the server's certificate."""
    regional = [f"{product}{kind}.{region_id}.aliyuncs.com" for product in ("kms", "sts") for kind in ("", "-vpc")]
    return [
        "localhost",
        *regional,
        "sts.aliyuncs.com",
        "ram.aliyuncs.com",
        "ims.aliyuncs.com",
        "*.cryptoservice.kms.aliyuncs.com",
    ]
