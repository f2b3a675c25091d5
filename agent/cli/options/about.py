"""The options of what is about keyturn itself: help, completion, man."""

from __future__ import annotations

import argparse


def help(help: argparse.ArgumentParser) -> None:
    """Add those of `help`."""
    help.add_argument(
        "words", metavar="COMMAND", nargs="*", help="a command, and an action of it; or exit-codes, environment"
    )


def completion(completion: argparse.ArgumentParser) -> None:
    """Add those of `completion`."""
    completion.description = f"{completion.description}\n\n{_WHERE}"
    completion.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")


_WHERE = """\
bash, for yourself, then for everybody:
  keyturn completion bash > ~/.local/share/bash-completion/completions/keyturn
  keyturn completion bash > /usr/share/bash-completion/completions/keyturn
zsh, for yourself (and fpath=(~/.zfunc $fpath) in ~/.zshrc, before compinit):
  keyturn completion zsh > ~/.zfunc/_keyturn
  keyturn completion zsh > /usr/local/share/zsh/site-functions/_keyturn
fish:
  keyturn completion fish > ~/.config/fish/completions/keyturn.fish
  keyturn completion fish > /usr/share/fish/vendor_completions.d/keyturn.fish
for this shell only, of bash or zsh, then of fish:
  source <(keyturn completion bash)
  keyturn completion fish | source

The directories for yourself may have to be made first. The Debian package has
all of it in its places."""


def man(man: argparse.ArgumentParser) -> None:
    """Add those of `man`."""
    man.add_argument("words", metavar="COMMAND", nargs="*", help="the page of this command; default: keyturn(1)")
    man.add_argument(
        "--output", metavar="DIR", help="write all of them below DIR, where man(1) finds them: DIR/man1/keyturn.1"
    )
