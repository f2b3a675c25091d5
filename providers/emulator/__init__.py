"""The cloud emulator: KMS, STS and RAM over HTTPS on loopback, with checked signatures, rotations and ordered faults.

It serves the demo, the tests, and tests of your own (`keyturn emulator`). `cloud.py` is the state, `server.py` the
wire, `metadata.py` the metadata service of a virtual machine. It shares no code with keyturn's providers, so that
mistakes of one side do not hide those of the other.
"""

from .cloud import Cloud
from .directory import Files, write_directory
from .faults import Fault
from .metadata import MetadataServer
from .server import EmulatorServer

__all__ = ["Cloud", "EmulatorServer", "Fault", "Files", "MetadataServer", "write_directory"]
