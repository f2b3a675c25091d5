"""The operating system, one module per facility: clock, files, processes, locks, sd_notify.

The rest of the code goes through these modules; tests/test_architecture.py names each file and line that does not.
"""
