"""The credentials URI of this agent: keys over HTTP on loopback, for those who read an address once and ask it again and again.

    tokens.py     which token opens which credential, and who used it last      gate.py       one request, judged and answered
    clients.py    when which client asks again                                  listening.py  follows the config, over reloads
    rotation.py   a new token in the file, while the old one goes on            check.py      what `check` says

The sink that sends them here is agent/sinks/formats/credentials_uri.py; values and the record of who fetched what are
agent/serving's, and the HTTP is agent/http's. What the gate can and cannot prove: docs/endpoint.md.
"""
