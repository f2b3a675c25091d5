"""Where values are published to: `interface.py` is the contract, `transaction.py` switches all sinks as one."""
