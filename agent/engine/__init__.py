"""When each credential is refreshed, in which order, and how it fares."""
