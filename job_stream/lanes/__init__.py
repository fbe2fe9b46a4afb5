"""Lanes: the workers of a rank, which run parcels of work through the user's functions."""
