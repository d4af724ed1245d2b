"""The student network and its losses."""
