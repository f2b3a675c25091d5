"""Calls to Alibaba Cloud by `requests`: TLS always verified, deadlines that really bound, errors that say what to do.

Shared by the providers, the verification and the emergency. Why not the generated SDKs here: one signed
call of three is needed, they cost 15 to 20 MB resident each, follow redirects, put URLs into exception
texts and bound only single reads (docs/dependencies.md has the figures).
"""
