"""One door per facility of the operating system: clock, files, processes, locks, sd_notify.

The rest of the code goes through these; tests/test_architecture.py names the rule, the file and the line
of whoever does not.
"""
