"""What `scd-wm play` serves: a world model that is driven in a browser, on this machine only."""
