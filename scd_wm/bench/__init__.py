"""What `scd-wm bench` measures: speed and memory on this machine, SCD beside its rivals."""
