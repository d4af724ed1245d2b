"""What a person runs: commands, rehearsal, Kaggle, status and report. Nothing in nbkit imports it."""
