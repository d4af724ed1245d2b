"""Recordings of spiking units and of two-photon imaging, cut into windows."""
