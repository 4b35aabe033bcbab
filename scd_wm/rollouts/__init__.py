"""Policies in simulators and in imagination."""
