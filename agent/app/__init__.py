"""What is built of all the parts: the application, the daemon around it, and what commands ask of either."""
