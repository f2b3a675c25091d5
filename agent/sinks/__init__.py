"""The targets that values are published to. `interface.py` is the contract, transaction/ switches all sinks as one."""
