"""What people are told: progress, warnings, advice, the state of a job."""
