"""How close imagined frames are to what really happened, beside null models and with intervals."""
