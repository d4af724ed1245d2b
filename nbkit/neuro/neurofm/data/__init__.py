"""Recordings of spikes as batches: pools, curricula, and padded windows."""
