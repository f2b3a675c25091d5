"""keyturn: keeps the AccessKeys and STS sessions of applications on Alibaba Cloud VMs fresh, proven and audited.

START HERE: `agent/refresh/pipeline.py` tells one refresh from its first line to its last. Where everything else
lives, and which way imports may point, is in docs/architecture.md, the words in docs/glossary.md.
"""

__version__ = "1.0.0"
