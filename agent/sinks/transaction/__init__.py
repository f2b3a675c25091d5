"""The transaction that switches the files of one credential as one: stage, switch, recover."""
