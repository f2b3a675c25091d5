"""The ways to tell a dependent. `interface.py` is the contract; agent/dispatch/ decides who is told when."""
