"""Alibaba's sample "Manage access credentials" of its SDK for Python, in a loop: one client, made once, the default chain.

sampler.py ENDPOINT CA TALLY: `{"answered": N, "refused": N, "keys": [...]}`; only the endpoint and its CA are not the sample's.
"""

import json
import os
import sys
import time

from alibabacloud_credentials.client import Client as CredentialClient
from alibabacloud_sts20150401.client import Client
from alibabacloud_tea_openapi.models import Config

endpoint, ca, path = sys.argv[1:]
credential = CredentialClient()
client = Client(Config(credential=credential, endpoint=endpoint, ca=ca))
answered, refused, keys = 0, [], []
while True:
    try:
        key = credential.get_credential().access_key_id
        client.get_caller_identity()
        answered += 1
        keys += [key] if key not in keys[-1:] else []
    except Exception as error:
        refused.append(f"{type(error).__name__}: {error}"[:300])
    with open(f"{path}.new", "w") as file:
        json.dump({"pid": os.getpid(), "answered": answered, "refused": refused, "keys": keys}, file)
    os.rename(f"{path}.new", path)
    time.sleep(0.1)
