"""Data sets in another format: the zarr store, or robomimic HDF5."""
