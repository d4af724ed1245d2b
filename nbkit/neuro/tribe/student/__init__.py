"""The student network, part by part, and its losses."""
