"""`scd-wm evaluate-policies`: the same policies from the same starts, really and in imagination."""
