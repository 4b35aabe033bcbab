"""Planning in imagination and acting in a simulator."""
