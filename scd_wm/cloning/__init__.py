"""Policies in the format of robomimic, cloned from any data set."""
