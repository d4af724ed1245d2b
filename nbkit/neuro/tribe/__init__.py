"""Tiny-TRIBE: a small student that predicts fMRI from text, audio and video, distilled from TRIBE v2."""
