"""A cloud in a box: KMS, STS and RAM over HTTPS on loopback, with checked signatures, rotations and faults to order.

For the demo, for the tests, and for tests of your own (`keyturn emulator`). `cloud.py` is the state, `server.py` the
wire, `metadata.py` what a virtual machine knows of itself. It shares no code with keyturn's providers, so that the
mistakes of one side do not hide those of the other.
"""

from .cloud import Cloud
from .directory import Files, write_directory
from .faults import Fault
from .metadata import MetadataServer
from .server import EmulatorServer

__all__ = ["Cloud", "EmulatorServer", "Fault", "Files", "MetadataServer", "write_directory"]
