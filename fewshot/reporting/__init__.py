"""Messages to the user: progress, warnings, advice, the state of a job."""
