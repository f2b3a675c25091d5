"""The least that each identity of a config must be allowed, for `keyturn policy` (docs/policy.md).

`identities` finds who signs what, `calls` knows which action each call takes and on what, `documents` writes RAM's form.
Only the config is read, and the properties files that it names: no secret, no network.
"""
