"""One refresh of one credential, from the source to the switched sinks. START HERE: pipeline.py."""
