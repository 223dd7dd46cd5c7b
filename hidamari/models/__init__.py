"""Estimators: the doors."""
