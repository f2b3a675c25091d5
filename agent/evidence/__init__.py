"""Documents made of the audit log, for people who were not there: the rotation report and what they are written on.

Nothing here writes to the log or asks the cloud. The HTML page is imported by what makes HTML alone: it costs jinja2.
"""
