"""Architectures trained alike on the same worlds: quality beside speed."""
