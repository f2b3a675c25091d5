"""The canary: signs a harmless call with what readers are offered now, so that a dead key is noticed before they notice it.

It hears of a publish, and holds up none: files are read and calls are made in a lane of their own, behind all other work.
How often, and why: docs/adr/0020.
"""
