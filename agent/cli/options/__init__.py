"""The options of the commands, one function for each, imported when its command is named."""
