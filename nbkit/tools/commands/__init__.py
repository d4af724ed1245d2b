"""The command line, and the commands that check, install and create."""
