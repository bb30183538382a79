"""Measurements, each printing ratios of things run side by side in one run."""
