"""The page of results: every system on real recordings, by its notebooks, in sessions that may be killed."""
