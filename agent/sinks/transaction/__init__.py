"""How the files of one credential are switched as one: stage, switch, recover."""
