"""The loop, its workers and its timers."""
