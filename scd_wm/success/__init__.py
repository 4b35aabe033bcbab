"""A second opinion on what success looks like: a classifier of images."""
