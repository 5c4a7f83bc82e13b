"""Fleetune against what people write today, on the same work, side by side in one run"""
