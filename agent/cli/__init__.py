"""The command line: parses, asks, prints and exits. What is done stands elsewhere."""
