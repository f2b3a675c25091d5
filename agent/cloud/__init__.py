"""Calls to Alibaba Cloud by `requests`: TLS always verified, deadlines that really bound, errors that say what to do.

Shared by the providers, the verification and the emergency. Rejected: the generated SDKs. keyturn needs a few signed
calls, while each SDK costs 15 to 20 MB resident, follows redirects, puts URLs into the texts of exceptions and limits
only single reads (docs/dependencies.md has the figures).
"""
