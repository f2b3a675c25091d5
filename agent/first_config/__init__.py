"""The first config of a host, for `keyturn init`.

sources.py    where a key comes from: a provider, what has to be asked, what has to be put where
readers.py    how an application reads it: a sink, and what its file needs
document.py   the config as text, with the steps that are still due; no I/O
host.py       what is asked of this machine: users, units, files
"""
