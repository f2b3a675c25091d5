"""`requests`, imported without the library by which it guesses encodings: import it from here, not by itself.

requests takes charset_normalizer for `Response.text` alone, and does without it where it is not installed. keyturn reads
bytes, so its 3 MB (tables of every alphabet, five codecs for Asian scripts) would be loaded for nothing. For others in
this process `.text` of a reply that names no encoding is read as UTF-8, and charset_normalizer itself can be imported.
"""

from __future__ import annotations

import sys
import warnings

_GUESSER = "charset_normalizer"

if _GUESSER in sys.modules or "requests" in sys.modules:  # somebody loaded it already
    import requests
else:
    sys.modules[_GUESSER] = None  # type: ignore[assignment]  # "not installed", by the language reference
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Unable to find acceptable character detection")
            import requests
    finally:
        del sys.modules[_GUESSER]

__all__ = ["requests"]
