"""Who is told of a publish, when, and what happens when it fails: the dispatcher, one dependent, one delivery."""
